"""Streams through real proxies, by the recipes of docs/operation.md and by nginx as it comes, and by ``curl -N``."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from certificate import trusting, write_certificate

from tests.harness import PATIENCE, ServerProcess, free_port, on_one_loop
from tests.http.test_proxy_recipes import PATH, caddy, haproxy, nginx, running, server
from tests.streams import Block, read_block

__all__ = ["server"]


def plain_nginx(folder: Path, port: int, server: int) -> list[str]:
    """Return the command of an nginx without a setting for streams: HTTP/1.0 to the server, and buffers."""
    certificate, key = write_certificate(folder, "proxy")
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; proxy_temp_path {folder}/proxy; client_body_temp_path {folder}/body;\n"
        f"fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n"
        f"gzip on; gzip_types text/event-stream;\n"
        f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};\n"
        f"location / {{ proxy_pass http://127.0.0.1:{server}; }} }} }}"
    )
    return ["nginx", "-e", "stderr", "-c", str(config)]


async def next_block(response: aiohttp.ClientResponse) -> Block:
    """The next block that is more than a comment."""
    async with asyncio.timeout(PATIENCE):
        while True:
            block = read_block((await response.content.readuntil(b"\n\n"))[:-2].decode())
            if block.data is not None:
                return block


@pytest.mark.parametrize("make_command", [plain_nginx, nginx, haproxy, caddy], ids=lambda make: make.__name__)
@on_one_loop
async def test_a_proxy_passes_each_event_on_at_once(
    make_command: Callable[[Path, int, int], list[str]], server: ServerProcess, tmp_path: Path
) -> None:
    program, topic = make_command.__name__.removeprefix("plain_"), f"stream-{make_command.__name__}".replace("_", "-")
    if shutil.which(program, path=PATH) is None:
        assert os.environ.get("CI") != "true", f"needs {program}: apt-get install {program}"
        pytest.skip(f"needs {program}: apt-get install {program}")
    port = free_port()
    with running(make_command(tmp_path, port, server.port), port, tmp_path):
        connector = aiohttp.TCPConnector(ssl=trusting())
        async with aiohttp.ClientSession(f"https://127.0.0.1:{port}", connector=connector) as http:
            await follow(http, topic)


async def follow(http: aiohttp.ClientSession, topic: str) -> None:
    """Follow a topic, resume once, and leave."""
    async with http.post("/topics", json={"name": topic}) as response:
        assert response.status == 201
    path, last_id = f"/topics/{topic}/events?client_id={topic}", ""
    for seq, msg in enumerate(("subscribed", "recovered"), 1):
        async with http.get(path, headers={"Last-Event-ID": last_id} if last_id else {}) as stream:
            assert stream.status == 200
            assert stream.headers["Content-Type"] == "text/event-stream"
            assert (await next_block(stream)).data["msg"] == msg
            async with http.post(f"/topics/{topic}/messages", json={"payload": seq}) as response:
                assert response.status == 200
            event = await next_block(stream)
            assert (event.data["seq"], event.data["message"]["payload"]) == (seq, seq)
            last_id = event.id or ""
            assert stream.connection is not None
            assert stream.connection.transport is not None
            stream.connection.transport.abort()  # a close over TLS would wait for the proxy
    async with asyncio.timeout(PATIENCE):
        while True:  # some proxies tell the server that a client has left when the next event comes
            async with http.post(f"/topics/{topic}/messages", json={"payload": 0}) as response:
                assert response.status == 200
            async with http.get("/clients") as response:
                if all(row["client_id"] != topic for row in (await response.json())["clients"]):
                    return


def call(url: str, *options: str) -> None:
    """Make a REST call."""
    assert subprocess.run(["curl", "-sf", *options, url], capture_output=True).returncode == 0


def test_curl_shows_each_event_at_once(server: ServerProcess) -> None:
    call(f"{server.url}/topics", "-d", '{"name":"curled"}')
    command = ["curl", "-sN", f"{server.url}/topics/curled/events"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        lines = iter(curl.stdout.readline, "")
        assert next(lines).startswith("retry: ")
        assert next(lines).startswith("id: ")
        assert next(lines) == "event: info\n"
        assert json.loads(next(lines).removeprefix("data: "))["msg"] == "subscribed"
        assert next(lines) == "\n"
        call(f"{server.url}/topics/curled/messages", "-d", '{"payload":"hello"}')
        assert next(lines).startswith("id: ")
        assert json.loads(next(lines).removeprefix("data: "))["message"]["payload"] == "hello"
        call(f"{server.url}/topics/curled", "-X", "DELETE")
        assert '"msg":"topic_deleted"' in "".join(lines)
    assert curl.returncode == 0
