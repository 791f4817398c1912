"""Receives events in code without an event loop: scripts and notebooks. It must never need a loop of its caller."""

from __future__ import annotations

import asyncio
import builtins
import os
import ssl
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, Self, TypedDict, TypeVar, Unpack, overload

from pubsub.client.client import Client
from pubsub.client.errors import PayloadError
from pubsub.client.events import Event, Gap, Notice, Position
from pubsub.client.handover import Closed
from pubsub.client.loop_thread import LoopThread
from pubsub.client.pump import Pump
from pubsub.client.states import StateChange

__all__ = ["Subscriber"]

T = TypeVar("T")


class ClientOptions(TypedDict, total=False):
    """Keywords of Client. A function for ``token`` is a plain one here."""

    client_id: str | None
    token: str | Callable[[], str] | None
    api_key: str | None
    tls: ssl.SSLContext | None
    connect_timeout: float | None
    answer_timeout: float
    heartbeat: float
    max_incoming: int
    on_state: Callable[[StateChange], None] | None


class Options(ClientOptions, total=False):
    """Those, and keywords of ``Client.subscribe``."""

    last_n: int
    filter: str | None
    params: Mapping[str, Any] | None
    resume: Mapping[str, Position | Mapping[str, Any]] | None
    mend: bool
    notices: bool


class Subscriber(Generic[T]):
    """``with Subscriber("http://127.0.0.1:8080", "orders") as events: for event in events: print(event.payload)``

    The keywords are those of :class:`Client` and of its ``subscribe``; ``token`` and ``load`` are plain functions here.
    The connection lives in a thread with an event loop of its own, so it works where a loop runs already. It is opened
    by ``with``, or by the first use, and closed by ``with`` or :meth:`close`, and at the latest by the end of the
    program. ``on_state`` is called in that thread.

    While nobody takes items, ``max_incoming`` and some 100 more wait here. Then nothing more is read from the server,
    and its own limits apply.

    Opening raises Unreachable, Disconnected, TopicNotFound, Forbidden, BadRequest or LimitExceeded. Iterating and
    :meth:`get` raise Disconnected when there can be no connection any more, and PayloadError, after which they can go
    on. A subscriber does not survive a fork.
    """

    @overload
    def __init__(
        self: Subscriber[Any],
        url: str,
        topic: str,
        *,
        load: Callable[[], Any] | None = None,
        **options: Unpack[Options],
    ) -> None: ...

    @overload
    def __init__(
        self,
        url: str,
        topic: str,
        *,
        type: builtins.type[T],
        load: Callable[[], Any] | None = None,
        **options: Unpack[Options],
    ) -> None: ...

    def __init__(self, url: str, topic: str, *, load: Callable[[], Any] | None = None, **options: Any) -> None:
        """Raises ValueError for a URL that is none. Nothing is opened yet."""
        if unknown := sorted(options.keys() - {"type", *Options.__annotations__}):
            raise TypeError(f"expected keywords of Client and of subscribe, got {', '.join(unknown)}")
        if callable(token := options.get("token")):
            options["token"] = partial(asyncio.to_thread, token)
        for_client = {name: options.pop(name) for name in ClientOptions.__annotations__ if name in options}
        self._make_client = partial(Client, url, **for_client)
        self._make_client()  # for its errors
        self._topic = topic
        self._load = load
        self._options = options
        self._thread: LoopThread | None = None
        self._pump: Pump[T] | None = None
        self._position: dict[str, Position] = {}

    def open(self) -> Self:
        """Connect and subscribe, if that is not done yet. After an error it may be called again."""
        if self._thread is None:
            thread = LoopThread("pubsub subscriber")
            try:
                self._pump = thread.call(Pump.open(self._make_client(), self._topic, self._load, self._options))
            except BaseException:
                thread.close()
                raise
            self._thread, self._process = thread, os.getpid()
            self._position = self._pump.start
            weakref.finalize(self, thread.close)  # at the exit of the interpreter at the latest
        return self

    def close(self) -> None:
        """Unsubscribe and disconnect. The iteration ends. Closing again does nothing."""
        if self._thread is not None:
            self._thread.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event[T] | Gap | Notice:
        try:
            return self._next(None)
        except Closed:
            raise StopIteration from None

    def get(self, timeout: float | None = None) -> Event[T] | Gap | Notice:
        """Wait for the next item and return it. Raises TimeoutError after ``timeout`` seconds."""
        try:
            return self._next(timeout)
        except Closed:
            raise RuntimeError("the subscriber is closed") from None

    @property
    def position(self) -> dict[str, Position]:
        """The position in each topic after the last item that was handed out; ``resume`` of a later one takes it."""
        return dict(self._position)

    @property
    def state(self) -> Any:
        """The value that ``load`` returned; None without it."""
        return self._opened.state

    def reload(self) -> None:
        """Call ``load`` again, after a Gap for example: ``state`` is new, and the next item is later than that call."""
        pump = self._opened
        assert self._thread is not None, "it is open"
        self._thread.call(pump.reload())
        self._position = pump.start

    @property
    def _opened(self) -> Pump[T]:
        self.open()
        assert self._pump is not None, "it is open"
        if self._process != os.getpid():
            raise RuntimeError("a subscriber can't be used after a fork: its thread is in the other process")
        return self._pump

    def _next(self, timeout: float | None) -> Event[T] | Gap | Notice:
        pumped = self._opened.handover.get(timeout)
        item = pumped.item
        if pumped.position is not None:
            self._position = pumped.position
        elif isinstance(item, Event):
            self._position[item.topic] = Position(item.epoch, item.seq)
        if isinstance(item, PayloadError):
            raise item
        return item
