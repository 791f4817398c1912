"""TLS on both loops: the upgrade, the closing handshake, renewal of the certificate."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import hang_up
import pytest
from aiohttp import web
from certificate import tls_flags, trusting, write_certificate
from cryptography import x509
from hang_up import open_websocket

from pubsub.app import create_app
from pubsub.http.app_keys import CERTIFICATE
from pubsub.http.tls import load_certificate
from pubsub.lifecycle import listen
from tests.credentials import SECRET, make_token
from tests.harness import (
    REPOSITORY,
    ForkedServer,
    Server,
    clean_environment,
    environment_of,
    make_settings,
    on_one_loop,
    publish_request,
)


@contextlib.asynccontextmanager
async def tls_server(folder: Path, **chosen: Any) -> AsyncIterator[Server]:
    cert_file, key_file = write_certificate(folder, "first")
    settings = make_settings(tls_cert_file=str(cert_file), tls_key_file=str(key_file), **chosen)
    app = create_app(settings)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = await listen(runner, settings)
    port = listener.sockets[0].getsockname()[1]
    connector = aiohttp.TCPConnector(ssl=trusting())
    async with aiohttp.ClientSession(f"https://127.0.0.1:{port}", connector=connector) as http:
        try:
            yield Server(app, runner, port, http)
        finally:
            listener.close()
            await runner.cleanup()


async def test_the_whole_contract_over_tls(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server, server.client() as client:
        await server.create("a")
        await client.subscribe("a")
        for number in range(100):
            await client.send(publish_request("a", "x" * number * 200))
        events = [each for each in await client.receive_many(200) if each["type"] == "event"]
        assert [each["seq"] for each in events] == list(range(1, 101))
        assert [len(each["message"]["payload"]) for each in events] == [number * 200 for number in range(100)]
        (row,) = (await server.get("/clients"))["clients"]
        assert row["bytes_in"] > 0
        assert row["bytes_out"] > 0


async def test_a_slow_client_over_tls_catches_up(tmp_path: Path) -> None:
    async with tls_server(tmp_path, subscriber_queue_size=10) as server, server.client() as client:
        await server.create("a")
        await client.subscribe("a")
        for _ in range(60):
            server.publish_locally("a", ["x" * 100_000] * 5)
            await asyncio.sleep(0)
        server.publish_locally("a", ["last"])
        seen: list[int] = []
        while not seen or seen[-1] != 301:
            told = await client.receive()
            seen += range(told["from_seq"], told["to_seq"] + 1) if told["type"] == "info" else [told["seq"]]
        assert seen == list(range(1, 302))


async def test_tokens_and_goodbyes_over_tls(tmp_path: Path) -> None:
    async with tls_server(tmp_path, jwt_secret=SECRET) as server:
        headers = {"Authorization": f"Bearer {make_token('ops', admin=True)}"}
        async with server.client(None) as client:
            assert (await client.ask({"type": "auth", "token": make_token()}))["type"] == "ack"
            async with server.http.delete("/clients/alice", headers=headers) as response:
                assert await response.json() == {"status": "disconnected", "client_id": "alice", "connections": 1}
            assert await client.closed() == 4403
        async with server.client(None) as client:
            await client.send({"type": "ping"})
            assert await client.closed() == 4401


async def test_plain_text_on_the_tls_port_hurts_nobody(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
        writer.close()
        assert (await server.get("/health"))["topics"] == 0


async def name_of_certificate(port: int) -> str:
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting())
    found = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    writer.transport.abort()
    return str(found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


async def test_another_certificate_is_that_of_new_connections(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server, server.client() as client:
        assert await name_of_certificate(server.port) == "first"
        server.app[CERTIFICATE].context = load_certificate(*map(str, write_certificate(tmp_path, "second")))
        assert await name_of_certificate(server.port) == "second"
        await client.sync()


@on_one_loop
async def test_health_knows_its_own_certificate(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server:
        files = {"TLS_CERT_FILE": str(tmp_path / "cert.pem"), "TLS_KEY_FILE": str(tmp_path / "key.pem")}
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "pubsub", "health"], cwd=REPOSITORY, capture_output=True, text=True, check=False,
            env=clean_environment() | files | {"PORT": str(server.port)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["topics"] == 0


@pytest.mark.parametrize("way", ["close", "reset", "unwrap"])
async def test_row_56_tls_clients_that_hang_up_are_noticed_by_nobody_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """Between the end of the TCP connection and connection_lost() a TLS transport has no socket."""
    trouble: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: trouble.append(context))
    async with tls_server(tmp_path, ping_period_sec=0.1, pong_wait_sec=60) as server, server.client() as client:
        clients = await asyncio.create_subprocess_exec(sys.executable, hang_up.__file__, str(server.port), way, "30")

        async def ask() -> None:
            while clients.returncode is None:
                async with server.http.get("/clients?limit=1000") as response:
                    assert response.status == 200, await response.text()

        await asyncio.gather(*(ask() for _ in range(3)))
        await client.sync()
    assert trouble == []
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_row_56_a_shutdown_ends_well_with_tls_clients_that_do_not_answer_it(loop: str, tmp_path: Path) -> None:
    flags = (*tls_flags(tmp_path), "--shutdown-timeout-sec", "1")
    with ForkedServer(*flags, environment=environment_of(loop)) as server:
        clients = [open_websocket(server.port) for _ in range(150)]
        assert server.stop() == 0
        assert "Traceback" not in server.log
        assert "Shutdown complete" in server.log
        for client in clients:
            client.close()
