"""SIGHUP: the live settings change while the server runs, all of them or none, and the log tells it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from certificate import write_certificate

from pubsub.auth.jwks import KeySet
from pubsub.core.idle import REVIEWED
from pubsub.http.app_keys import BROKER, CERTIFICATE
from pubsub.http.identities import IDENTITIES
from pubsub.live import IN_FORCE
from pubsub.reloading import Reloading
from pubsub.settings import LIVE, SECRETS, Settings, SettingsError
from tests.auth.test_jwks import NEW, by_new, by_old, provider
from tests.auth.test_tokens import P256, RSA, pem
from tests.credentials import API_KEYS, HANDSHAKE, SECRET, bearer, claims, make_token
from tests.harness import (
    LOCAL,
    PATIENCE,
    REPOSITORY,
    Client,
    Server,
    ServerProcess,
    clean_environment,
    eventually,
    make_settings,
    on_one_loop,
    run_server,
)
from tests.http.test_tls import name_of_certificate
from tests.streams import Stream

OTHER_SECRET = "another secret of more than thirty-two bytes"
OPS = {"X-API-Key": "ops-key"}
BOARD = {"X-API-Key": "board-key"}


async def reload(server: Server, **chosen: Any) -> None:
    """Reload the server's settings: those that it has, with the chosen ones."""
    await reload_with(server, lambda: make_settings(**chosen))


async def reload_with(server: Server, read: Callable[[], Settings]) -> None:
    async with asyncio.timeout(5):
        await Reloading(server.app, read, lambda: None).reload()


async def status(server: Server, headers: dict[str, str], path: str = "/topics") -> int:
    async with server.http.get(path, headers=headers) as response:
        return response.status


@contextlib.asynccontextmanager
async def connect(server: Server, token: str) -> AsyncIterator[Client]:
    """A client with a token in its URL."""
    async with server.http.ws_connect(f"/ws?token={token}", autoping=False) as websocket:
        yield Client(websocket)


async def open_stream(server: Server, headers: dict[str, str]) -> Stream:
    stream = await Stream.open(server.port, "/topics/a/events", headers=headers)
    assert stream.status == 200
    return stream


# Keys that are revoked


async def test_row_23_a_revoked_api_key_ends_its_streams_and_its_calls_at_once() -> None:
    async with run_server(api_keys=API_KEYS) as server, server.client() as client:
        async with server.http.post("/topics", json={"name": "a"}, headers=OPS) as response:
            assert response.status == 201
        kept, revoked = await open_stream(server, OPS), await open_stream(server, BOARD)
        await reload(server, api_keys="ops:admin:ops-key")
        assert (await status(server, OPS), await status(server, BOARD)) == (200, 401)
        await eventually(lambda: server.connections == 2)
        assert b"UNAUTHORIZED" in await revoked.client.read_all()
        server.publish_locally("a", [1])
        await kept.info("subscribed")
        assert (await kept.next()).data["message"]["payload"] == 1
        await client.sync()


async def test_a_key_with_another_role_is_another_key() -> None:
    async with run_server(api_keys="ops:admin:ops-key") as server:
        async with server.http.post("/topics", json={"name": "a"}, headers=OPS) as response:
            assert response.status == 201
        stream = await open_stream(server, OPS)
        await reload(server, api_keys="ops:read:ops-key")
        assert b"no longer accepted" in await stream.client.read_all()


async def test_row_23_a_revoked_secret_ends_its_connections() -> None:
    async with run_server(jwt_secret=f"{SECRET},{OTHER_SECRET}") as server:
        by_other = jwt.encode(claims("bob"), OTHER_SECRET, "HS256")
        async with (
            connect(server, make_token()) as alice,
            connect(server, by_other) as bob,
            server.client(None) as stranger,
        ):
            await reload(server, jwt_secret=OTHER_SECRET)
            assert await alice.closed() == 4401
            assert alice.others[-1]["error"] == {"code": "UNAUTHORIZED", "message": "token: no longer accepted"}
            await bob.sync()
            assert (await stranger.ask({"type": "auth", "token": by_other}))["type"] == "ack"
            assert await status(server, HANDSHAKE | bearer(make_token()), "/ws") == 401


@pytest.mark.parametrize(
    ("before", "after", "stays"),
    [
        ({}, {"jwt_issuer": "us"}, True),
        ({}, {"jwt_issuer": "them"}, False),
        ({"jwt_issuer": "us"}, {"jwt_issuer": "them,us"}, True),
        ({}, {"jwt_algorithms": "HS256,RS256"}, True),
        ({"jwt_algorithms": "HS256"}, {}, True),
        ({"jwt_issuer": "us"}, {"jwt_audience": "them"}, False),
    ],
)
@on_one_loop
async def test_a_connection_stays_if_its_token_would_be_accepted_now(
    before: dict[str, Any], after: dict[str, Any], stays: bool
) -> None:
    token = make_token(iss="us")
    async with run_server(jwt_secret=SECRET, **before) as server, connect(server, token) as client:
        await reload(server, jwt_secret=SECRET, **after)
        if stays:
            await client.sync()
        else:
            assert await client.closed() == 4401
        assert (await status(server, HANDSHAKE | bearer(token), "/ws") == 101) == stays


@on_one_loop
async def test_an_audience_that_is_still_accepted_stays() -> None:
    token = make_token(aud=["a", "b"])
    async with run_server(jwt_secret=SECRET, jwt_audience="a") as server, connect(server, token) as client:
        await reload(server, jwt_secret=SECRET, jwt_audience="b,c")
        await client.sync()
        await reload(server, jwt_secret=SECRET)
        assert await client.closed() == 4401


async def test_a_key_that_is_gone_from_its_file_is_revoked(tmp_path: Path) -> None:
    file = tmp_path / "keys.pem"
    file.write_bytes(pem(RSA) + pem(P256))
    settings: dict[str, Any] = {"jwt_public_key_file": str(file)}
    tokens = [jwt.encode(claims(), RSA, "RS256"), jwt.encode(claims(), P256, "ES256")]
    async with run_server(**settings) as server, connect(server, tokens[0]) as old, connect(server, tokens[1]) as new:
        file.write_bytes(pem(P256))
        await reload(server, **settings)
        assert await old.closed() == 4401
        await new.sync()


async def test_with_tokens_who_has_none_is_disconnected_and_without_them_too() -> None:
    async with run_server() as server:
        await server.create("a")
        stream = await open_stream(server, {})
        async with server.client() as client:
            await client.subscribe("a")
            await reload(server, jwt_secret=SECRET)
            assert await client.closed() == 4401
            assert b"UNAUTHORIZED" in await stream.client.read_all()
        async with connect(server, make_token()) as client:
            await reload(server)
            assert await client.closed() == 4401
        async with server.client() as client:
            await client.subscribe("a")


async def test_with_api_keys_who_has_none_loses_its_streams_alone() -> None:
    async with run_server() as server, server.client() as client:
        await server.create("a")
        stream = await open_stream(server, {})
        await reload(server, api_keys=API_KEYS)
        assert b"UNAUTHORIZED" in await stream.client.read_all()
        await client.sync()
        assert await status(server, {}) == 401


async def test_who_waits_for_a_key_is_judged_by_the_settings_that_then_are() -> None:
    """The key comes after the reload, by which its source is no longer trusted."""
    async with provider() as source:
        source.may_answer.clear()
        async with run_server(jwt_jwks_url=source.url) as server, server.client(None) as client:
            opening = asyncio.create_task(status(server, HANDSHAKE | bearer(by_old()), "/ws"))
            await client.send({"type": "auth", "token": by_old(), "request_id": "a"})
            await eventually(lambda: source.asked == 1)
            await client.send({"type": "ping"})
            await reload(server, jwt_secret=SECRET)
            assert await opening == 401
            assert await client.closed() == 4401
            source.may_answer.set()


@pytest.mark.parametrize("kind", ["websocket", "stream"])
@on_one_loop
async def test_a_key_that_is_revoked_while_its_holder_comes_in(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The identity is known, and the connection is not open yet."""
    path = "/ws" if kind == "websocket" else "/topics/a/events"
    async with run_server(jwt_secret=SECRET) as server:
        identities = server.app[IDENTITIES]
        found = identities._identify_token

        async def identify(token: str) -> Any:
            identity = await found(token)
            await reload(server, jwt_secret=OTHER_SECRET)
            return identity

        monkeypatch.setattr(identities, "_identify_token", identify)
        server.app[BROKER].create_topic("a")
        assert await status(server, HANDSHAKE | bearer(make_token(subscribe=["a"])), path) == 401
        assert server.connections == 0


# Keys by URL


async def test_another_provider_must_answer_before_anything_changes(caplog: pytest.LogCaptureFixture) -> None:
    async with provider() as old, provider() as new, run_server(jwt_jwks_url=old.url) as server:
        async with connect(server, by_old()) as client:
            new.keys, new.status = [NEW], 503
            await reload(server, jwt_jwks_url=new.url, api_keys=API_KEYS)
            assert f"Settings not reloaded: JWT_JWKS_URL: got '{new.url}', no keys came: 503" in caplog.text
            assert await status(server, {}) == 200
            await client.sync()
            new.status = 200
            await reload(server, jwt_jwks_url=new.url, api_keys=API_KEYS)
            assert await status(server, {}) == 401
            assert await client.closed() == 4401
        async with connect(server, by_new()) as client:
            await client.sync()
        assert new.asked == 2, "they are not fetched a third time, at the start of their renewal"


async def test_the_same_provider_is_asked_again_and_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsub.auth.jwks.LEAST_PAUSE", 0.01)
    monkeypatch.setattr(KeySet.__init__, "__kwdefaults__", {"least_pause": 0.01})
    async with (
        provider() as source,
        run_server(jwt_jwks_url=source.url) as server,
        connect(server, by_old()) as client,
    ):
        source.status = 503
        await eventually(lambda: not server.app[IN_FORCE].parts.source._resting)  # type: ignore[union-attr]
        await reload(server, jwt_jwks_url=source.url, api_keys=API_KEYS)
        await eventually(lambda: source.asked == 2)
        assert await status(server, {}) == 401
        await client.sync()


# What else is live


async def test_rates_count_for_those_who_are_there() -> None:
    async with run_server() as server, server.client() as client:
        await reload(server, rate_limit_msgs_per_sec=0.001, rate_limit_burst=1)
        assert [(await client.ask({"type": "ping"}))["type"] for _ in range(2)] == ["pong", "error"]
        assert [await status(server, {}) for _ in range(2)] == [200, 429]
        await reload(server, rate_limit_msgs_per_sec=0.001, rate_limit_burst=1, allowed_origins="https://a.example")
        assert await status(server, {}) == 429, "a reload gives nobody another burst"
        await reload(server)
        await client.sync()
        assert await status(server, {}) == 200


async def test_origins() -> None:
    page = {"Origin": "https://app.example"}
    async with run_server() as server:
        assert await status(server, HANDSHAKE | page, "/ws") == 403
        async with server.http.get("/health", headers=page) as response:
            assert "Access-Control-Allow-Origin" not in response.headers
        await reload(server, allowed_origins="https://app.example")
        assert await status(server, HANDSHAKE | page, "/ws") == 101
        async with server.http.get("/health", headers=page) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
        preflight = page | {"Access-Control-Request-Method": "DELETE"}
        async with server.http.options("/topics/a", headers=preflight) as response:
            assert response.status == 204
        await reload(server)
        async with server.http.options("/topics/a", headers=preflight) as response:
            assert response.status == 405


async def test_rules_for_topics(tmp_path: Path) -> None:
    """A topic that exists is deleted when it is idle, by a rule that comes later; topics without one stay."""
    file = tmp_path / "rules.json"
    file.write_text("[]")
    async with run_server(topic_rules_file=str(file)) as server, server.client() as client:
        await server.create("room.1", "hall")
        assert (await client.ask({"type": "subscribe", "topic": "room.2", "client_id": "tester"}))["type"] == "error"
        file.write_text(json.dumps([{"pattern": "room.*", "create": True, "delete_idle_sec": 0.2}]))
        await reload(server, topic_rules_file=str(file))
        await client.subscribe("room.2")
        broker = server.app[BROKER]
        await eventually(lambda: [topic.name for topic in broker.topics] == ["hall", "room.2"])
        assert (await server.get("/rules"))["rules"][0]["pattern"] == "room.*"
        file.write_text("[]")
        await reload(server, topic_rules_file=str(file))
        await eventually(lambda: not broker.idle._watches)


async def test_rules_reach_many_topics_in_turns(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    async with run_server() as server:
        broker = server.app[BROKER]
        for number in range(2 * REVIEWED + 1):
            broker.create_topic(f"t{number}")
        file.write_text(json.dumps([{"pattern": ">", "delete_idle_sec": 60}]))
        await reload(server, topic_rules_file=str(file))
        broker.delete_topic("t0")
        await eventually(lambda: not broker.idle._unreviewed)
        assert len(broker.idle._watches) == 2 * REVIEWED


async def test_the_level_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    root = logging.getLogger()
    before = root.level
    try:
        async with run_server() as server:
            await reload(server, log_level="debug")
            assert root.level == logging.DEBUG
            assert server.app[BROKER].heeds_publishes
            await reload(server, log_level="error")
            assert root.level == logging.ERROR
            assert not server.app[BROKER].heeds_publishes
            await reload(server, log_level="info")
    finally:
        root.setLevel(before)
    assert "Setting changed: LOG_LEVEL: '' to 'debug'" in caplog.text


def files_in(folder: Path, name: str) -> dict[str, Any]:
    folder.mkdir()
    cert_file, key_file = write_certificate(folder, name)
    return {"tls_cert_file": str(cert_file), "tls_key_file": str(key_file)}


@on_one_loop
async def test_a_certificate_from_other_files(tmp_path: Path) -> None:
    first, second = (files_in(tmp_path / name, name) for name in ("first", "second"))
    async with run_server(**first) as server:
        assert await name_of_certificate(server.port) == "first"
        await reload(server, **second)
        assert await name_of_certificate(server.port) == "second"


def test_each_live_setting_is_tested_above() -> None:
    source = Path(__file__).read_text()
    assert [name for name in LIVE if f"{name}=" not in source and f'"{name}"' not in source] == []


# All or none


BAD = {
    "api_keys": "ops",
    "jwt_secret": "short",
    "jwt_public_key_file": "/nowhere",
    "jwt_algorithms": "none",
    "topic_rules_file": "/nowhere",
    "tls_cert_file": "/nowhere",
}


@pytest.mark.parametrize("name", BAD)
@on_one_loop
async def test_a_mistake_changes_nothing(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cert, key = map(str, write_certificate(tmp_path, "first"))
    before: dict[str, Any] = {"api_keys": API_KEYS, "jwt_secret": SECRET, "tls_cert_file": cert, "tls_key_file": key}
    async with run_server(**before) as server:
        in_force, identities = server.app[IN_FORCE], server.app[IDENTITIES]
        state = [in_force.settings, in_force.parts, identities.api_keys, identities.tokens.trust, identities.rates]
        state += [server.app[CERTIFICATE].context, server.app[BROKER].rules.listed]
        good = {"allowed_origins": "https://a.example", "rate_limit_msgs_per_sec": 1}
        await reload(server, **before | good | {name: BAD[name]})
        assert "Settings not reloaded: " in caplog.text
        assert state == [
            in_force.settings, in_force.parts, identities.api_keys, identities.tokens.trust, identities.rates,
            server.app[CERTIFICATE].context, server.app[BROKER].rules.listed,
        ]  # fmt: skip


@on_one_loop
async def test_each_mistake_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> Settings:
        raise SettingsError(["PORT: got 'x'", "MODE: got 'y'"])

    async with run_server() as server:
        await reload_with(server, read)
    lines = ["Settings not reloaded: PORT: got 'x'", "Settings not reloaded: MODE: got 'y'"]
    assert [message for message in caplog.messages if "reloaded" in message] == lines


@pytest.mark.parametrize("failure", [SystemExit(-9), OSError(12, "Cannot allocate memory")])
@on_one_loop
async def test_a_reader_that_fails_changes_nothing(failure: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def read() -> Settings:
        raise failure

    async with run_server(api_keys=API_KEYS) as server:
        await reload_with(server, read)
        assert "Settings not reloaded: their reader" in caplog.text
        assert await status(server, {}) == 401


@on_one_loop
async def test_a_failure_that_nobody_thought_of_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with run_server(api_keys=API_KEYS) as server:
        reloading = Reloading(server.app, lambda: 1 // 0, lambda: None)  # type: ignore[arg-type, return-value]
        reloading.request()
        await eventually(lambda: "Settings not reloaded: internal error" in caplog.text)
        assert await status(server, {}) == 401


@on_one_loop
async def test_a_file_of_settings_that_is_gone_opens_no_door(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without the file there would be no API keys, so that everybody might do everything."""
    file = tmp_path / "settings"
    file.write_text("API_KEYS=…")
    async with run_server(api_keys=API_KEYS, env_file=str(file)) as server:
        reloading = Reloading(server.app, make_settings, lambda: None)
        file.unlink()
        await reloading.reload()
        assert f"Settings not reloaded: ENV_FILE: got '{file}', which is gone" in caplog.text
        assert await status(server, {}) == 401


# What is told


@on_one_loop
async def test_what_changed_is_told_and_no_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "rules.json"
    file.write_text("[]")
    before: dict[str, Any] = {"api_keys": API_KEYS, "jwt_secret": SECRET, "topic_rules_file": str(file)}
    async with run_server(**before) as server, connect(server, make_token()):
        file.write_text('[{"pattern":"a"}]')
        caplog.clear()
        after = before | {
            "api_keys": "ops:admin:new-key",
            "jwt_secret": OTHER_SECRET,
            "allowed_origins": "https://a.example",
        }
        await reload(server, **after, max_topics=7)
        messages = [message for message in caplog.messages if "etting" in message]
        assert messages == [
            "Setting changed: TOPIC_RULES_FILE: another content",
            "Setting changed: API_KEYS: not shown",
            "Setting changed: JWT_SECRET: not shown",
            "Setting changed: ALLOWED_ORIGINS: '' to 'https://a.example'",
            "Setting needs a restart: MAX_TOPICS: 0 to 7",
            "Settings reloaded: 4 changed, 1 connections closed",
        ]
        assert server.app[IN_FORCE].settings.max_topics == 0
    for secret in ("ops-key", "new-key", SECRET, OTHER_SECRET):
        assert secret not in caplog.text


@on_one_loop
async def test_tls_cannot_begin_while_the_server_listens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cert, key = map(str, write_certificate(tmp_path, "first"))
    async with run_server() as server:
        await reload(server, tls_cert_file=cert, tls_key_file=key)
        assert f"Setting needs a restart: TLS_CERT_FILE: '' to '{cert}'" in caplog.text
        assert await status(server, {}) == 200


@on_one_loop
async def test_requests_during_a_reload_are_one_more_reload() -> None:
    reads = 0

    def read() -> Settings:
        nonlocal reads
        reads += 1
        return make_settings()

    async with run_server() as server:
        done = asyncio.Event()
        reloading = Reloading(server.app, read, lambda: done.set() if reads == 2 else reloading.request())
        for _ in range(3):
            reloading.request()
        await done.wait()
        assert reloading._task is not None
        await reloading._task
        assert reads == 2


def test_secrets_are_live() -> None:
    assert SECRETS <= LIVE


# A server of its own


def test_a_server_ends_with_its_terminal() -> None:
    """The terminal, when it is closed, sends SIGHUP too."""
    own, terminal = pty.openpty()
    command = [sys.executable, "-m", "pubsub", "serve", *LOCAL, "--port", "0"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=clean_environment(), stdin=terminal, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as server:  # fmt: skip
        os.close(terminal)
        assert server.stderr is not None
        assert any("Listening on" in line for line in server.stderr)
        os.close(own)
        _, log = server.communicate(timeout=PATIENCE)
        assert "SIGTERM: shutting down" in log
        assert server.returncode == 0


@on_one_loop
async def test_a_server_reads_its_file_again_at_sighup(tmp_path: Path) -> None:
    cert_file, key_file = write_certificate(tmp_path, "first")
    settings = f"TLS_CERT_FILE={cert_file}\nTLS_KEY_FILE={key_file}\n"
    file = tmp_path / "pubsub.env"
    file.write_text(f"{settings}API_KEYS=ops:admin:first-key\n")
    environment = {"ENV_FILE": str(file), "MAX_TOPICS": "7"}
    with ServerProcess("--log-format", "json", environment=environment, directory=tmp_path) as server:
        write_certificate(tmp_path, "second")
        file.write_text(f"{settings}API_KEYS=ops:admin:second-key\nMAX_TOPICS=8\n")
        server.process.send_signal(signal.SIGHUP)
        server.read_log_until("Settings reloaded: 3 changed, 0 connections closed")
        assert await name_of_certificate(server.port) == "second"
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http:
            for key, expected in {"first-key": 401, "second-key": 200}.items():
                url = f"https://127.0.0.1:{server.port}/topics"
                async with http.get(url, headers={"X-API-Key": key}) as response:
                    assert response.status == expected
        file.write_text(f"{settings}API_KEYS=ops:admin\nLOG_LEVEL")
        os.kill(server.process.pid, signal.SIGHUP)
        server.read_log_until("Settings not reloaded: ENV_FILE: .* line 4: expected NAME=value")
        file.write_text(f"{settings}API_KEYS=ops:admin\n")
        os.kill(server.process.pid, signal.SIGHUP)
        server.read_log_until("Settings not reloaded: API_KEYS: got a value that is not shown, entry 1: expected")
        assert server.stop() == 0
        assert "Traceback" not in server.log
        assert "MAX_TOPICS" not in server.log
