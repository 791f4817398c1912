"""A server for the tests of programs that use it: the real one, in a thread of the test's own process.

With ``pytest_plugins = ["pubsub.client.testing"]`` in ``conftest.py``, or ``from pubsub.client.testing import
pubsub_server``, each test that names the fixture ``pubsub_server`` gets a server of its own. Without pytest there is
:func:`running_server`. It must never leave a thread, a socket or a file behind.
"""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Self

import msgspec
from aiohttp import web
from msgspec import UNSET

from pubsub.app import create_app
from pubsub.client.errors import error_for
from pubsub.client.events import Event
from pubsub.client.loop_thread import LoopThread
from pubsub.core.history import KeptEvents
from pubsub.http import topics
from pubsub.http.app_keys import BROKER, CONNECTIONS
from pubsub.http.listener import Listener
from pubsub.http.waiting import answered
from pubsub.lifecycle import listen
from pubsub.protocol import replies
from pubsub.protocol.errors import Failure
from pubsub.settings import Settings
from pubsub.settings_reader import check_settings
from pubsub.websocket.ending import Ending

PAGE: Final = 7  # messages read at once: as many of the largest fit into one answer

# Clients reconnect at once. A client whose loop waits for the end of stop() can't answer, and is soon cut off.
DEFAULTS: Final = {"host": "127.0.0.1", "port": 0, "reconnect_spread_sec": 0, "shutdown_timeout_sec": 0.5}


@contextmanager
def running_server(**settings: Any) -> Iterator[LocalServer]:
    """Run a server on a free loopback port; ``settings`` are those of the server, such as ``ring_buffer_size=5``.

    Nothing is read from the environment. Durable topics are in a temporary directory unless ``data_dir`` names one.
    Raises ValueError for settings that are not valid.
    """
    with ExitStack() as resources:
        chosen = DEFAULTS | settings
        if "data_dir" not in chosen:
            chosen["data_dir"] = resources.enter_context(tempfile.TemporaryDirectory(prefix="pubsub-"))
        server = LocalServer(check_settings(chosen))
        resources.callback(server.close)
        server.start()
        yield server


class LocalServer:
    """A server that :func:`running_server` runs. Every method may be called from any thread.

    The methods block, so a test with a loop of its own calls those that clients notice beside it: ``await
    asyncio.to_thread(server.restart)``.
    """

    def __init__(self, settings: Settings) -> None:
        self._port = None if settings.unix_path else _ReservedPort(settings)
        self._settings = settings if self._port is None else replace(settings, port=self._port.number)
        self._thread = LoopThread("pubsub server")
        self._running: _Running | None = None

    @property
    def url(self) -> str:
        """The URL for every client, such as ``http://127.0.0.1:54321``. It stays the same over restarts."""
        return self._settings.own_url

    def start(self) -> None:
        """Start the server again after :meth:`stop`."""
        if self._running is None:
            self._running = self._thread.call(_Running.start(self._settings))

    def stop(self) -> None:
        """Shut down as at SIGTERM; then connections are refused. Topics are lost unless they are durable."""
        running, self._running = self._running, None
        if running is not None:
            self._thread.call(running.stop())

    def restart(self) -> None:
        """Stop and start: what clients see of a deployment."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop for good."""
        try:
            self.stop()
        finally:
            self._thread.close()
            if self._port is not None:
                self._port.release()

    def disconnect_all(self) -> None:
        """Cut every WebSocket and every stream, as a failing network does."""
        self._thread.call(self._server.disconnect_all())

    def disconnect(self, client_id: str) -> int:
        """Disconnect a client as an operator does, with close code 4403. Returns the number of its connections."""
        return self._thread.call(self._server.app[CONNECTIONS].disconnect(client_id))

    def create_topic(self, name: str, **options: Any) -> None:
        """Create a topic; ``options`` such as ``durable=True``. Raises BadRequest, TopicExists, LimitExceeded."""
        text = msgspec.json.encode({"name": name, **options}).decode()
        with _as_client_sees():
            self._thread.call(topics.create(self._server.app[BROKER], text))

    def published(self, topic: str) -> list[Event[Any]]:
        """Return the messages that a topic keeps, oldest first: the last 100 by default (see its option ``history``).

        Raises TopicNotFound.
        """
        with _as_client_sees():
            return self._thread.call(self._server.published(topic))

    @property
    def _server(self) -> _Running:
        if self._running is None:
            raise RuntimeError("the server is stopped: start() starts it again")
        return self._running


class _ReservedPort:
    """A port that stays this server's while it is stopped: a socket has it that never listens."""

    def __init__(self, settings: Settings) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((settings.host, settings.port))
            self.number: int = self._socket.getsockname()[1]
        except OSError:
            self._socket.close()
            raise
        if sys.platform != "linux":  # only Linux lets another socket listen there
            self._socket.close()

    def release(self) -> None:
        self._socket.close()


@dataclass(frozen=True)
class _Running:
    """One life of the server, from a start to a stop. Its methods run in the loop of the server's thread."""

    app: web.Application
    runner: web.AppRunner
    listener: Listener

    @classmethod
    async def start(cls, settings: Settings) -> Self:
        app = create_app(settings)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            return cls(app, runner, await listen(runner, settings))
        except BaseException:
            await runner.cleanup()
            raise

    async def stop(self) -> None:
        self.listener.close()
        await self.runner.cleanup()
        await self.listener.wait_closed()

    async def published(self, topic: str) -> list[Event[Any]]:
        events: list[Event[Any]] = []
        while True:
            after = events[-1].seq if events else 0
            page: KeptEvents = await answered(partial(self.app[BROKER].history_after, topic, after, PAGE))
            events += [_read_event(each.text, page.epoch) for each in page.events]
            if len(page.events) < PAGE:
                return events

    async def disconnect_all(self) -> None:
        connections = self.app[CONNECTIONS]
        for peer in connections.page(0, len(connections)):
            peer.abort(Ending.LOST, "cut off by a test")


def _read_event(text: bytes, epoch: str) -> Event[Any]:
    event = msgspec.json.decode(text, type=replies.Event)
    message, sender = event.message, event.sender
    payload = msgspec.json.decode(message.payload)
    return Event(event.topic, event.seq, epoch, message.id, payload, event.ts, None if sender is UNSET else sender)


@contextmanager
def _as_client_sees() -> Iterator[None]:
    """Raise a failure of the server as the error that a client would get."""
    try:
        yield
    except Failure as failure:
        raise error_for(failure.code)(str(failure), status=failure.status) from None


try:
    import pytest
except ImportError:  # for tests without pytest there is running_server
    pass
else:

    @pytest.fixture
    def pubsub_server() -> Iterator[LocalServer]:
        """Run a server with default settings for one test."""
        with running_server() as server:
            yield server
