"""The connection of a client, with servers that close, refuse, keep silent, speak nonsense, or are not there."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from certificate import tls_flags, write_certificate

from pubsub.client import (
    AnswerTimeout,
    Client,
    Disconnected,
    Event,
    ServerFault,
    State,
    StateChange,
    TokenError,
    TooBig,
    Unreachable,
    UntrustedCertificate,
)
from tests.client.servers import (
    Refusal,
    closing,
    next_request,
    scripted,
    send_ack,
    send_event,
    silent,
    staying,
    transport_of,
)
from tests.harness import PATIENCE, ForkedServer, eventually, free_port, on_one_loop, run_server

LATE = 0.05  # seconds: a time limit that a test waits for


class States:
    """The states that a client told of."""

    def __init__(self) -> None:
        self.changes: list[StateChange] = []

    def __call__(self, change: StateChange) -> None:
        self.changes.append(change)

    @property
    def states(self) -> list[State]:
        return [change.state for change in self.changes]

    async def reach(self, *states: State) -> None:
        await eventually(lambda: self.states == list(states))


@pytest.fixture
def states() -> States:
    return States()


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1013, 3000])
async def test_a_connection_that_ends_is_made_again(states: States, code: int) -> None:
    async with scripted(closing(code), staying) as server, Client(server.url, on_state=states) as client:
        await states.reach(State.OPEN, State.CONNECTING, State.OPEN)
        change = states.changes[1]
        assert f"({code}: reason)" in change.reason
        assert isinstance(change.error, Unreachable)
        assert change.retry_sec is not None
        assert client.state is State.OPEN


@pytest.mark.parametrize("code", [1002, 1007, 1008, 1009, 4401, 4403])
@on_one_loop
async def test_a_connection_that_ends_for_good(states: States, code: int) -> None:
    async with scripted(closing(code)) as server:
        async with Client(server.url, on_state=states) as client:
            await states.reach(State.OPEN, State.CLOSED)
            with pytest.raises(Disconnected) as raised:
                await client.publish("t", 1)
            assert raised.value.code == code
            with pytest.raises(Disconnected):
                async with client.subscribe("t"):
                    pass
            with pytest.raises(Disconnected):
                await client.history("t")
        assert len(server.requests) == 1


async def test_a_lost_connection_is_made_again_and_the_publish_sent_again(states: States) -> None:
    ids: list[str] = []

    async def losing(websocket: web.WebSocketResponse) -> None:
        ids.append((await next_request(websocket))["message"]["id"])
        transport_of(websocket).abort()

    async def answering(websocket: web.WebSocketResponse) -> None:
        request = await next_request(websocket)
        ids.append(request["message"]["id"])
        await send_ack(websocket, request, seq=7)
        await silent(websocket)

    async with scripted(losing, answering) as server, Client(server.url, on_state=states) as client:
        publishing = asyncio.create_task(client.publish("t", 1))
        assert (await publishing).seq == 7
    assert ids[0] == ids[1]
    assert states.changes[1].reason.startswith("the connection was lost")


async def test_a_dead_connection_is_found_and_made_again(states: States) -> None:
    async with scripted(silent, staying) as server, Client(server.url, heartbeat=LATE, on_state=states):
        await states.reach(State.OPEN, State.CONNECTING, State.OPEN)
        assert states.changes[1].reason == "the connection was lost: nothing came for 0.1 s"


@pytest.mark.parametrize("status", [401, 403, 404])
@on_one_loop
async def test_a_refused_handshake_is_the_end(status: int) -> None:
    async with scripted(Refusal(status)) as server:
        with pytest.raises(Disconnected, match=f"refused the connection with status {status}") as raised:
            async with Client(server.url, connect_timeout=None):
                pass
        assert raised.value.code == status


async def test_a_server_that_is_not_ready_yet_is_tried_again(states: States) -> None:
    async with scripted(Refusal(503), Refusal(429), staying) as server, Client(server.url, on_state=states):
        assert states.states == [State.CONNECTING, State.CONNECTING, State.OPEN]


async def test_a_server_that_is_not_there() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unreachable, match=f"^no connection within {LATE} s: "):
        async with Client(url, connect_timeout=LATE):
            pass
    with pytest.raises(Unreachable, match=f"^cannot reach {url}: Connection refused$"):
        async with Client(url, connect_timeout=0):
            pass


async def test_a_server_that_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(Unreachable, match="no connection within"):
            async with Client(f"http://127.0.0.1:{port}", connect_timeout=3 * LATE, answer_timeout=LATE):
                pass


async def test_a_server_that_is_none() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match="no connection within"):
            async with Client(f"http://127.0.0.1:{port}", connect_timeout=LATE):
                pass


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://h"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="the URL must look like"):
        Client(url)


async def test_a_certificate_that_does_not_fit(tmp_path: Path) -> None:
    cert_file, _ = write_certificate(tmp_path, "another")
    another = ssl.create_default_context(cafile=str(cert_file))
    (tmp_path / "server").mkdir()
    with ForkedServer(*tls_flags(tmp_path / "server")) as server:
        url = server.url.replace("http:", "https:")
        for tls in (None, another):
            with pytest.raises(UntrustedCertificate, match="its certificate is not trusted"):
                async with Client(url, tls=tls, connect_timeout=None):
                    pass
        own = ssl.create_default_context(cafile=str(tmp_path / "server" / "cert.pem"))
        async with Client(url, tls=own) as client:
            await client.create_topic("t")
            assert (await client.publish("t", 1)).seq == 1


async def test_nonsense_is_told_and_the_connection_goes_on(states: States) -> None:
    async def nonsense(websocket: web.WebSocketResponse) -> None:
        await websocket.send_str("[]")
        await websocket.send_bytes(b'{"type":"pong"}')
        await staying(websocket)

    async with scripted(nonsense) as server, Client(server.url, on_state=states) as client:
        await client.publish("t", 1)
        told = states.changes[-1]
        assert told.state is State.OPEN
        assert isinstance(told.error, ServerFault)
        assert len(states.changes) == 2


async def test_a_server_that_breaks_the_protocol_of_websockets(states: States) -> None:
    async def breaking(websocket: web.WebSocketResponse) -> None:
        transport_of(websocket).write(b"\x83\x00")
        await silent(websocket)

    async with scripted(breaking, staying) as server, Client(server.url, on_state=states):
        await states.reach(State.OPEN, State.CONNECTING, State.OPEN)
        assert isinstance(states.changes[1].error, ServerFault), states.changes


async def test_a_publish_without_an_answer() -> None:
    async with scripted(silent) as server, Client(server.url, answer_timeout=LATE) as client:
        with pytest.raises(AnswerTimeout, match="the message may or may not be in the topic"):
            await client.publish("t", 1)


async def test_a_callback_that_raises_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def raising(change: StateChange) -> None:
        raise RuntimeError("a bug of the user")

    async with scripted(closing(1011), staying) as server, Client(server.url, on_state=raising) as client:
        await client.publish("t", 1)
    assert "on_state has raised" in caplog.text
    assert "a bug of the user" in caplog.text


async def test_events_that_come_with_the_ack_are_read_in_one_batch() -> None:
    async def script(websocket: web.WebSocketResponse) -> None:
        await send_ack(websocket, await next_request(websocket), epoch="e", seq=0)
        for seq in range(1, 200):
            await send_event(websocket, seq)
        await silent(websocket)

    async with (
        scripted(script) as server,
        Client(server.url, max_incoming=7) as client,
        client.subscribe("t") as events,
    ):
        for seq in range(1, 200):
            item = await anext(events)
            assert isinstance(item, Event)
            assert item.seq == seq


async def test_a_message_that_is_too_big() -> None:
    async with run_server(max_message_bytes=1000) as server, Client(server.url) as client:
        await client.create_topic("t")
        small = asyncio.create_task(client.publish("t", "small"))
        with pytest.raises(TooBig):
            await client.publish("t", "x" * 2000)
        assert (await small).seq == 1
        assert (await client.publish("t", "small")).seq == 2


async def test_a_token_function_is_asked_for_each_connection(states: States) -> None:
    tokens = iter(["one", "two", "three"])

    async def token() -> str:
        return next(tokens)

    async with scripted(closing(4401), Refusal(401), staying) as server:
        async with Client(server.url, token=token, on_state=states):
            await states.reach(State.OPEN, State.CONNECTING, State.CONNECTING, State.OPEN)
        found = [request.headers["Authorization"] for request in server.requests]
        assert found == ["Bearer one", "Bearer two", "Bearer three"]


async def hang() -> str:
    await asyncio.Event().wait()
    return ""


async def fail() -> str:
    raise RuntimeError("no token today")


async def no_text() -> str:
    return 7  # type: ignore[return-value]


async def two_lines() -> str:
    return "a\nb"


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (hang, "the token function did not return within 0.05 s"),
        (fail, "the token function raised RuntimeError"),
        (no_text, "token: expected printable ASCII"),
        (two_lines, "token: expected printable ASCII"),
    ],
    ids=["hangs", "raises", "no text", "two lines"],
)
@on_one_loop
async def test_a_token_function_that_gives_none(states: States, function: Callable[[], object], told: str) -> None:
    calls = 0

    async def sometimes() -> str:
        nonlocal calls
        calls += 1
        return "good" if calls > 1 else await function()  # type: ignore[misc]

    async with scripted(staying) as server:
        async with Client(server.url, token=sometimes, answer_timeout=LATE, on_state=states):
            assert states.states[-1] is State.OPEN  # on a busy machine an attempt may take too long
        error = states.changes[0].error
        assert isinstance(error, TokenError)
        assert str(error).startswith(told)


async def test_a_closed_client_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    before = asyncio.all_tasks()
    caplog.set_level(logging.WARNING)
    async with scripted(staying) as server:
        async with Client(server.url) as client, client.subscribe("t"), client.subscribe("t"):
            pass
        assert len(server.requests) == 2
    assert asyncio.all_tasks() - before == set()
    assert caplog.text == ""


async def test_a_client_that_is_closed_while_it_connects_leaves_nothing() -> None:
    before = asyncio.all_tasks()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        entering = asyncio.create_task(Client(f"http://127.0.0.1:{port}").__aenter__())
        await asyncio.sleep(0)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert asyncio.all_tasks() - before == set()


async def test_a_server_that_does_not_take_the_close_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsub.client.link.CLOSE_WAIT_SEC", LATE)
    released = asyncio.Event()

    async def stuck(websocket: web.WebSocketResponse) -> None:
        await released.wait()

    async with scripted(stuck) as server:
        async with asyncio.timeout(PATIENCE):
            async with Client(server.url):
                pass
        released.set()
