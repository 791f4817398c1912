"""The asynchronous client as users see it. It must never decide what a message of the server means."""

from __future__ import annotations

import builtins
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from pubsub.client.events import Position
from pubsub.client.outcomes import History, Presence, Published, TopicDetails, TopicSummary
from pubsub.client.states import State, StateChange
from pubsub.client.subscription import Subscription

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """``async with Client("http://127.0.0.1:8080") as client: await client.publish("orders", {"amount": 5})``"""

    def __init__(
        self,
        url: str,
        *,
        client_id: str | None = None,
        token: str | Callable[[], Awaitable[str]] | None = None,
        api_key: str | None = None,
        tls: ssl.SSLContext | None = None,
        connect_timeout: float | None = 10,
        answer_timeout: float = 10,
        heartbeat: float = 30,
        max_outgoing: int = 1000,
        when_full: Literal["wait", "raise"] = "wait",
        max_incoming: int = 1000,
        on_state: Callable[[StateChange], None] | None = None,
    ) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError

    @property
    def state(self) -> State:
        raise NotImplementedError

    @property
    def client_id(self) -> str:
        """The name that the server knows this client by."""
        raise NotImplementedError

    async def publish(
        self,
        topic: str,
        payload: Any,
        *,
        id: str | None = None,
        ttl_sec: float | None = None,
        expect_seq: int | None = None,
    ) -> Published:
        raise NotImplementedError

    async def publish_many(
        self, topic: str, payloads: Iterable[Any], *, ttl_sec: float | None = None
    ) -> list[Published]:
        raise NotImplementedError

    @overload
    def subscribe(
        self,
        topic: str,
        *,
        last_n: int = 0,
        filter: str | None = None,
        params: Mapping[str, Any] | None = None,
        resume: Mapping[str, Position | Mapping[str, Any]] | None = None,
        echo: bool = True,
        mend: bool = True,
        notices: bool = False,
        load: Callable[[], Awaitable[Any]] | None = None,
    ) -> Subscription[Any]: ...

    @overload
    def subscribe(
        self,
        topic: str,
        *,
        type: builtins.type[T],
        last_n: int = 0,
        filter: str | None = None,
        params: Mapping[str, Any] | None = None,
        resume: Mapping[str, Position | Mapping[str, Any]] | None = None,
        echo: bool = True,
        mend: bool = True,
        notices: bool = False,
        load: Callable[[], Awaitable[Any]] | None = None,
    ) -> Subscription[T]: ...

    def subscribe(
        self,
        topic: str,
        *,
        type: Any = Any,
        last_n: int = 0,
        filter: str | None = None,
        params: Mapping[str, Any] | None = None,
        resume: Mapping[str, Position | Mapping[str, Any]] | None = None,
        echo: bool = True,
        mend: bool = True,
        notices: bool = False,
        load: Callable[[], Awaitable[Any]] | None = None,
    ) -> Subscription[Any]:
        raise NotImplementedError

    async def history(
        self,
        topic: str,
        *,
        last_n: int | None = None,
        after: int | None = None,
        limit: int = 1000,
        filter: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> History[Any]:
        raise NotImplementedError

    async def presence(self, topic: str) -> Presence:
        raise NotImplementedError

    async def topics(self, prefix: str = "") -> list[TopicSummary]:
        raise NotImplementedError

    async def topic(self, name: str) -> TopicDetails:
        raise NotImplementedError

    async def create_topic(self, name: str, **options: Any) -> None:
        raise NotImplementedError

    async def delete_topic(self, name: str) -> None:
        raise NotImplementedError

    async def purge(self, name: str) -> int:
        raise NotImplementedError
