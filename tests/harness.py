"""Shared parts of tests over real sockets: the server in this loop or in a process, clients, and misbehaving peers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from random import SystemRandom
from typing import Any, ClassVar, Self

import aiohttp
import pytest
from aiohttp import web

from pubsub.app import create_app
from pubsub.http import routes
from pubsub.http.app_keys import BROKER, CONNECTIONS
from pubsub.http.listener import Listener
from pubsub.lifecycle import listen
from pubsub.protocol.frames import CLOSE, FIN, FIN_TEXT
from pubsub.protocol.requests import Publish, decode_request
from pubsub.settings import Settings
from tests.described import check_received, check_request
from tests.doubles import NoPublisher
from tests.forked import PRELUDE, ForkedProcess

REPOSITORY = Path(__file__).parent.parent
PATIENCE = 10.0  # seconds to wait for a required event; no test measures with it

# A directory that cannot hold a journal: a test that wants durable topics names its own directory.
NOWHERE = "/dev/null/journal"
LOCAL = ("--host", "127.0.0.1", "--data-dir", NOWHERE)  # flags of a server for tests

Json = dict[str, Any]

# For a test that a second event loop cannot change: a table of cases, or a server in its own process. It runs on the
# loop that users have.
on_one_loop = pytest.mark.asyncio(loop_factories=["uvloop"])


def make_settings(**chosen: Any) -> Settings:
    """Return settings for a test, with a free port."""
    values: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "data_dir": NOWHERE} | chosen
    return Settings(**values)


def new_id() -> str:
    return str(uuid.uuid4())


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` is true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - another process gives no event to wait for
            await asyncio.sleep(0.005)


@dataclass
class Server:
    """A server in this event loop."""

    app: web.Application
    runner: web.AppRunner
    port: int
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len(self.app[CONNECTIONS])

    def publish_locally(self, topic: str, payloads: list[Any]) -> None:
        """Publish many messages in one step, without a connection, to flood a topic."""

        for payload in payloads:
            request = decode_request(
                json.dumps({"type": "publish", "topic": topic, "message": {"id": new_id(), "payload": payload}})
            )
            assert isinstance(request, Publish)
            self.app[BROKER].publish([request], NoPublisher())

    async def create(self, *topics: str, **options: Any) -> None:
        for topic in topics:
            async with self.http.post("/topics", json={"name": topic} | options) as response:
                assert response.status == 201, await response.text()

    async def get(self, path: str) -> Json:
        async with self.http.get(path) as response:
            assert response.status == 200, await response.text()
            return await response.json()  # type: ignore[no-any-return]

    @contextlib.asynccontextmanager
    async def client(self, client_id: str | None = "tester") -> AsyncIterator[Client]:
        query = f"?client_id={client_id}" if client_id else ""
        async with self.http.ws_connect(f"/ws{query}", autoping=False, max_msg_size=0) as socket_:
            yield Client(socket_)


@contextlib.asynccontextmanager
async def run_server(*, send_buffer: int | None = None, **settings: Any) -> AsyncIterator[Server]:
    """Run a server in this event loop, on a free port. ``send_buffer``: kernel buffer for each client, in bytes."""
    chosen = make_settings(**settings)
    async with run_app(create_app(chosen), chosen, send_buffer=send_buffer) as server:
        yield server


@contextlib.asynccontextmanager
async def run_app(app: web.Application, chosen: Settings, *, send_buffer: int | None = None) -> AsyncIterator[Server]:
    """Run a server of which the Application is made already."""
    runner = web.AppRunner(app)
    await runner.setup()
    listener = await listen(runner, chosen)
    if send_buffer is not None:
        shrink_send_buffers(listener, send_buffer)
    port = listener.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        try:
            yield Server(app, runner, port, http)
        finally:
            RawClient.close_all()
            listener.close()
            await runner.cleanup()


def shrink_send_buffers(listener: Listener, size: int) -> None:
    """Shrink the send buffers, which accepted connections inherit: a client that stops reading blocks them at once."""
    for listening in listener.sockets:
        with socket.socket(fileno=os.dup(listening.fileno())) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


class Pause:
    """Requests for /stats that the server has begun and does not answer until they are released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = asyncio.Event()
        self.released = asyncio.Event()
        paused = [replace(each, handler=self._answer) if each.path == "/stats" else each for each in routes.ROUTES]
        monkeypatch.setattr(routes, "ROUTES", paused)

    async def _answer(self, request: web.Request) -> web.Response:
        self.begun.set()
        await self.released.wait()
        return web.json_response({})


class Client:
    """A client of the wire contract; ``ask`` sends a request and returns the answer with its ``request_id``."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self.websocket = websocket
        self.others: list[Json] = []  # messages that came before the requested answer
        self._asked = 0

    async def send(self, message: Json | str) -> None:
        await self.websocket.send_str(message if isinstance(message, str) else json.dumps(message))

    async def receive(self) -> Json:
        """The next text message that is not a heartbeat."""
        async with asyncio.timeout(PATIENCE):
            while True:
                received = await self.websocket.receive()
                if received.type is aiohttp.WSMsgType.PING:
                    await self.websocket.pong(received.data)
                    continue
                assert received.type is aiohttp.WSMsgType.TEXT, received
                message: Json = json.loads(received.data)
                check_received(message)
                if message.get("msg") != "ping":
                    return message

    async def receive_many(self, count: int) -> list[Json]:
        return [await self.receive() for _ in range(count)]

    async def ask(self, request: Json) -> Json:
        """Send ``request`` with a new ``request_id``; return its answer. Messages that came first are in ``others``."""
        self._asked += 1
        request_id = f"ask-{self._asked}"
        await self.send(request | {"request_id": request_id})
        while (message := await self.receive()).get("request_id") != request_id:
            self.others.append(message)
        if message["type"] != "error":
            check_request(request)
        return message

    async def subscribe(self, topic: str, **options: Any) -> Json:
        ack = await self.ask({"type": "subscribe", "topic": topic, "client_id": "tester"} | options)
        assert ack["type"] == "ack", ack
        return ack

    async def publish(self, topic: str, payload: Any) -> Json:
        ack = await self.ask(publish_request(topic, payload))
        assert ack["type"] == "ack", ack
        return ack

    async def sync(self) -> None:
        """Wait until every earlier request has been answered."""
        assert (await self.ask({"type": "ping"}))["type"] == "pong"

    async def closed(self) -> int | None:
        """Wait for the end of the connection; return its close code."""
        async with asyncio.timeout(PATIENCE):
            while not self.websocket.closed:
                received = await self.websocket.receive()
                if received.type is aiohttp.WSMsgType.TEXT:
                    self.others.append(json.loads(received.data))
        return self.websocket.close_code


def publish_request(topic: str, payload: Any) -> Json:
    return {"type": "publish", "topic": topic, "message": {"id": new_id(), "payload": payload}}


def masked_frame(first: int, payload: bytes, mask: bytes = b"\x12\x34\x56\x78") -> bytes:
    """Return a client's frame; ``first`` is the byte with FIN, RSV and opcode."""
    size = len(payload)
    masks = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload) ^ int.from_bytes(masks)).to_bytes(size)
    return frame_header(first, size, masked=True) + mask + masked


def frame_header(first: int, size: int, *, masked: bool) -> bytes:
    bit = 0x80 if masked else 0
    if size < 126:
        return bytes((first, bit | size))
    if size < 1 << 16:
        return bytes((first, bit | 126)) + size.to_bytes(2, "big")
    return bytes((first, bit | 127)) + size.to_bytes(8, "big")


def take_frame(received: bytearray) -> tuple[int, bytes] | None:
    """Remove a server's frame from the start of ``received``: first byte and payload; None if it is incomplete."""
    if len(received) < 2:
        return None
    assert not received[1] & 0x80, "a server's frame is not masked"
    extended = {126: 2, 127: 8}.get(received[1], 0)
    start = 2 + extended
    size = int.from_bytes(received[2:start], "big") if extended else received[1]
    if len(received) < start + size:
        return None
    first, payload = received[0], bytes(received[start : start + size])
    del received[: start + size]
    return first, payload


def messages_in(frames: bytes) -> list[Any]:
    """Decode the JSON of complete text frames."""
    received, messages = bytearray(frames), []
    while (frame := take_frame(received)) is not None:
        assert frame[0] == FIN_TEXT, frame
        messages.append(json.loads(frame[1]))
    assert not received, "a frame is incomplete"
    return messages


class RawClient:
    """A WebSocket client that sends any bytes, and reads only when a test asks it to. It may stall for ever."""

    _open: ClassVar[list[socket.socket]] = []

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._received = bytearray()
        self.read_size = 1 << 18  # the largest read
        self._open.append(sock)

    @classmethod
    def close_all(cls) -> None:
        """Close all clients. Each server calls this at its end, so tests need not."""
        while cls._open:
            cls._open.pop().close()

    @classmethod
    async def connect(cls, port: int, *, receive_buffer: int | None = None, path: str = "/ws?client_id=raw") -> Self:
        client = await cls.connect_tcp(port, receive_buffer=receive_buffer)
        await client.send(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = await client.read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return client

    @classmethod
    async def connect_tcp(cls, port: int, *, receive_buffer: int | None = None) -> Self:
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client = cls(sock)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return client

    def send_at_once(self, sent: bytes) -> None:
        """Send as much as the kernel takes."""
        with contextlib.suppress(BlockingIOError):
            self._socket.send(sent)

    async def send(self, sent: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, sent)

    async def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, Json]:
        """Send an HTTP request on this connection; return the status and the JSON of its answer."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        await self.send(head.encode() + body)
        return await self.read_response()

    async def read_response(self) -> tuple[int, Json]:
        head = await self.read_until(b"\r\n\r\n")
        size = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
        assert size, head
        while len(self._received) < int(size[1]):
            self._received += await self.read_some()
        body = self._received[: int(size[1])]
        del self._received[: int(size[1])]
        return int(head.split()[1]), json.loads(body)

    async def send_text(self, message: Json | str) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        await self.send(masked_frame(FIN_TEXT, text.encode()))

    async def subscribe(self, topic: str, **options: Any) -> None:
        """Subscribe and read up to the ack."""
        await self.send_text({"type": "subscribe", "topic": topic, "client_id": "raw"} | options)
        while (await self.receive())["type"] != "ack":
            pass

    def half_close(self) -> None:
        """Send no more, but continue to read."""
        self._socket.shutdown(socket.SHUT_WR)

    async def read_some(self) -> bytes:
        """Read the bytes that have come; empty after the server has closed or reset the connection."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await asyncio.get_running_loop().sock_recv(self._socket, self.read_size)
            except ConnectionResetError:
                return b""

    async def read_all(self) -> bytes:
        """Read up to the end of the connection."""
        while more := await self.read_some():
            self._received += more
        return bytes(self._received)

    async def read_until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            more = await self.read_some()
            assert more, f"closed before {mark!r}: {self._received!r}"
            self._received += more
        end = self._received.index(mark) + len(mark)
        found = bytes(self._received[:end])
        del self._received[:end]
        return found

    async def read_bytes(self, count: int) -> bytes:
        while len(self._received) < count:
            more = await self.read_some()
            assert more, f"closed after {len(self._received)} bytes of {count}"
            self._received += more
        found = bytes(self._received[:count])
        del self._received[:count]
        return found

    async def read_upto(self, mark: bytes) -> bytes | None:
        """Read up to ``mark``; None if the connection ends before anything more comes."""
        while mark not in self._received:
            more = await self.read_some()
            if not more:
                assert not self._received, f"closed before {mark!r}: {self._received!r}"
                return None
            self._received += more
        return await self.read_until(mark)

    async def read_frame(self) -> tuple[int, bytes] | None:
        """Read the server's next frame: first byte and payload; None after it has closed."""
        while True:
            if frame := take_frame(self._received):
                return frame
            more = await self.read_some()
            if not more:
                return None
            self._received += more

    async def read_messages(self) -> AsyncIterator[Json]:
        """Yield the text messages up to the server's close frame or the end, without heartbeats."""
        while (frame := await self.read_frame()) is not None:
            if frame[0] == FIN_TEXT:
                message = json.loads(frame[1])
                check_received(message)
                if message.get("msg") != "ping":
                    yield message
            elif frame[0] == FIN | CLOSE:
                return

    async def receive(self) -> Json:
        """The next text message that is not a heartbeat."""
        async with asyncio.timeout(PATIENCE):
            async for message in self.read_messages():
                return message
        raise AssertionError("closed instead of a message")

    async def close_code(self) -> int | None:
        """Read up to the server's close frame; return its code, or None if the connection ends without one."""
        async with asyncio.timeout(PATIENCE):
            while (frame := await self.read_frame()) is not None:
                if frame[0] == FIN | CLOSE:
                    return int.from_bytes(frame[1][:2], "big")
        return None

    async def is_gone(self) -> bool:
        """Wait until the server has closed the TCP connection."""
        async with asyncio.timeout(PATIENCE):
            while await self.read_some():
                pass
        return True

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """End the connection without a close frame: the server gets a RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self._socket.close()


class ServerProcess:
    """``python -m pubsub serve`` in its own process, ready to serve; ``log`` is the text that it has logged so far."""

    program: ClassVar[tuple[str, ...]] = ("-m", "pubsub", "serve", *LOCAL)
    process: subprocess.Popen[str] | ForkedProcess

    def __init__(
        self,
        *flags: str,
        environment: dict[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *self.program, "--port", "0", *flags],
            cwd=directory or REPOSITORY,
            env=clean_environment() | {"PYTHONPATH": str(REPOSITORY)} | (environment or {}),
            stderr=subprocess.PIPE,
            text=True,
        )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        self.log = ""
        self.port = int(self.read_log_until(r"(?:127\.0\.0\.1|\[::1?\]):(\d+)")[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def create(self, *topics: str) -> None:
        client = await RawClient.connect_tcp(self.port)
        for topic in topics:
            assert (await client.request("POST", "/topics", json.dumps({"name": topic}).encode()))[0] == 201
        client.close()

    def read_log_until(self, pattern: str) -> re.Match[str]:
        """Read the log up to a line that matches ``pattern``."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"the log ended without {pattern!r}:\n{self.log}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        assert self.process.stderr is not None
        self.log += self.process.stderr.read()  # communicate() would leave out the text in read_log_until's buffer
        return self.process.wait(timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        RawClient.close_all()
        self.process.kill()
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.process.wait()


class ForkedServer(ServerProcess):
    """The same server, forked: for tests of what it does between its start as a program and its end."""

    def __init__(self, *flags: str, environment: dict[str, str] | None = None, files: int | None = None) -> None:
        """Start the process. ``files``: its hard limit of open files; the soft limit is half of it."""
        self.process = ForkedProcess(
            [*LOCAL, "--port", "0", *flags], REPOSITORY, clean_environment() | (environment or {}), files=files
        )
        self._wait_until_ready()


class EchoProcess(ServerProcess):
    """scripts/echo.py in its own process: the server's connections with an echo."""

    program = (str(REPOSITORY / "scripts" / "echo.py"),)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without any setting of the server."""
    return {name: value for name, value in os.environ.items() if not is_setting(name)}


def is_setting(name: str) -> bool:
    return name.lower() in {each.name for each in fields(Settings)} or name.lower() == "gin_mode"


def environment_of(loop: str) -> dict[str, str]:
    """Return the environment of a ForkedServer that runs on ``loop``: "uvloop", or "asyncio" for Python's own."""
    return {} if loop == "uvloop" else {PRELUDE: "tests.without_uvloop"}


@contextlib.contextmanager
def nothing_left(kind: type) -> Iterator[None]:
    """Check that no further object of ``kind`` is alive at the end, without the collector of cycles.

    In a server the collector is rare: an object that waits for it is as good as lost.
    """
    gc.collect()
    gc.disable()
    try:
        before = count_alive(kind)
        yield
        assert count_alive(kind) == before
    finally:
        gc.enable()


def count_alive(kind: type) -> int:
    return sum(type(each) is kind for each in gc.get_objects())


def free_port() -> int:
    """Return a port at which nothing listens. No connection gets it meanwhile, so a server can be started there again.

    Linux gives connections ports from 32,768 on, also one at which a server has listened before.
    """
    while True:
        port = SystemRandom().randrange(10_000, 32_768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
