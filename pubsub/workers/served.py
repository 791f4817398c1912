"""A worker that serves, as it obeys the supervisor: connections, settings, the end, and questions for its metrics."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web
from msgspec import Raw

from pubsub.http.app_keys import BROKER, CLUSTER
from pubsub.http.health import STATE
from pubsub.http.metrics import SOURCES
from pubsub.live import IN_FORCE
from pubsub.metrics.merging import Gathered, Part
from pubsub.reloading import Reloading
from pubsub.settings import Settings
from pubsub.workers.control import (
    ANSWER,
    ASK,
    BEAT,
    CONNECTION,
    DRAIN,
    GATHERED,
    GONE,
    LEAVE,
    LOAD,
    QUESTION,
    READY,
    SETTINGS,
    TROUBLE,
    Answer,
    Control,
    Drain,
    GatheredMetrics,
    Load,
    Message,
    Question,
    Splitter,
)

if TYPE_CHECKING:
    from pubsub.http.listener import Listener

log = logging.getLogger(__name__)

LOAD_PERIOD: Final = 0.25  # seconds after which the supervisor knows of connections that have ended
GATHER_WAIT: Final = 5.0  # seconds for the metrics of the others; the supervisor answers sooner

EXPOSITION: Final = "pubsub.metrics.exposition"  # 2 MiB, which a server without scrapes has not

_encode = msgspec.msgpack.Encoder().encode


class Supervision:
    """The control socket as the parts of a worker use it (OtherWorkers). ``number``: the worker's.

    ``control`` comes when the worker is ready to serve.
    """

    control: Control | None = None

    def __init__(self, number: int) -> None:
        self.number = number
        self._asked = 0
        self._open: dict[int, asyncio.Future[Gathered]] = {}

    async def gather(self, *, openmetrics: bool) -> Gathered:
        assert self.control is not None, "a request comes later"
        self._asked += 1
        number = self._asked
        gathered = self._open[number] = asyncio.get_running_loop().create_future()
        self.control.send(ASK, _encode(Question(number, openmetrics)))
        try:
            return await asyncio.wait_for(gathered, GATHER_WAIT)
        except TimeoutError:
            return Gathered({}, {self.number: 1})
        finally:
            del self._open[number]

    def take(self, body: bytes) -> None:
        """The metrics of the others have come."""
        found = msgspec.msgpack.decode(body, type=GatheredMetrics)
        gathered = self._open.get(found.number)
        if gathered is not None and not gathered.done():
            parts = {number: msgspec.msgpack.decode(each, type=list[Part]) for number, each in found.parts.items()}
            gathered.set_result(Gathered(parts, found.starts))


class Served:
    """See the module. ``warn`` is called after changes of the settings. ``stop`` is set when the worker is to end.

    ``abandoned``: the supervisor is gone.
    """

    def __init__(
        self,
        app: web.Application,
        listener: Listener,
        settings: Settings,
        warn: Callable[[], None],
        supervision: Supervision,
    ) -> None:
        self.stop = asyncio.Event()
        self.abandoned = False
        self._app = app
        self._listener = listener
        self._settings = settings
        self._reloading = Reloading(app, lambda: self._settings, warn)
        self._received = 0
        self._told = Load(0, 0)
        self._loop = asyncio.get_running_loop()
        self._supervision = supervision
        self._answering: set[asyncio.Task[None]] = set()

    def begin(self, sock: socket.socket, splitter: Splitter) -> None:
        self._control = self._supervision.control = Control(sock, self._take, self._lose, splitter)
        self._control.send(READY, self._app[CLUSTER].server.encode())
        self._tell_load_again()

    def _take(self, message: Message) -> None:
        match message.kind:
            case kind if kind == CONNECTION:
                self._received += 1
                if message.sock is not None:
                    self._listener.take(message.sock)
                self._tell_load()
            case kind if kind == SETTINGS:
                wanted = msgspec.json.decode(message.body, type=Settings)
                self._settings = replace(wanted, journal_url=self._settings.journal_url)
                self._reloading.request()
            case kind if kind == LEAVE:
                self._leave()
            case kind if kind == DRAIN:
                self._drain(msgspec.json.decode(message.body, type=Drain).seconds)
            case kind if kind == BEAT:
                self._control.send(BEAT, self._app[BROKER].failure.encode())
            case kind if kind == TROUBLE:
                self._app[STATE].trouble = message.body.decode()
            case kind if kind == GONE:
                self._app[CLUSTER].members.end(message.body.decode())
            case kind if kind == QUESTION:
                task = self._loop.create_task(self._answer(msgspec.msgpack.decode(message.body, type=Question)))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            case kind if kind == GATHERED:
                self._supervision.take(message.body)

    def _lose(self) -> None:
        """The supervisor is gone."""
        log.error("The supervisor is gone: shutting down")
        self.abandoned = True
        self._drain(self._settings.shutdown_timeout_sec)

    def _leave(self) -> None:
        self._app[STATE].draining = True

    def _drain(self, seconds: float) -> None:
        in_force = self._app[IN_FORCE]
        in_force.settings = replace(in_force.settings, drain_sec=0, shutdown_timeout_sec=seconds)
        self.stop.set()

    async def _answer(self, question: Question) -> None:
        exposition = await asyncio.to_thread(import_module, EXPOSITION)
        form = exposition.OPENMETRICS if question.openmetrics else exposition.PLAIN
        parts = await exposition.write_parts(self._app[SOURCES], form)
        self._control.send(ANSWER, _encode(Answer(question.number, Raw(_encode(parts)))))

    def _tell_load_again(self) -> None:
        self._tell_load()
        self._loop.call_later(LOAD_PERIOD, self._tell_load_again)

    def _tell_load(self) -> None:
        load = Load(self._received, self._received - self._listener.present)
        if load != self._told:
            self._told = load
            self._control.send(LOAD, msgspec.json.encode(load))
