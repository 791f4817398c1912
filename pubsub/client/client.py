"""The asynchronous client as users see it. It must never decide what a message of the server means."""

from __future__ import annotations

import builtins
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from pubsub.client.address import server_url
from pubsub.client.arguments import history_request, publish_request, wish_of
from pubsub.client.events import Position
from pubsub.client.inbox import InboxRules
from pubsub.client.outcomes import History, Presence, Published, TopicDetails, TopicSummary
from pubsub.client.parts import Options, Parts
from pubsub.client.payloads import decoder_of
from pubsub.client.states import State, StateChange
from pubsub.client.subscription import Subscription
from pubsub.client.tokens import Tokens

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """``async with Client("http://127.0.0.1:8080") as client: await client.publish("orders", {"amount": 5})``

    ``url``: the server (http, https, ws or wss). ``token``: a JWT, or an async function that returns one; it is asked
    for each connection, and before the present token expires. ``api_key``: for the calls over REST. ``tls``: trusted
    certificates, the system's by default.

    Times are seconds. ``connect_timeout``: for the first connection; 0 is one attempt, None waits for ever.
    ``answer_timeout``: for an answer of the server or of the token function. ``heartbeat``: after so much silence it
    asks the server if it is there, and after twice that it connects again.

    ``max_outgoing``: publishes without an answer; one more waits, or raises OutgoingFull if ``when_full`` is "raise".
    ``max_incoming``: items that wait in one subscription. Above that nothing more is read from the server, and its own
    limits apply, unless an answer is awaited.

    ``on_state`` is called with each StateChange. If it raises, that is logged.
    """

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
        self._options = Options(
            url=server_url(url),
            client_id=client_id or "",
            tokens=Tokens(token, answer_timeout),
            api_key=api_key,
            tls=tls,
            connect_timeout=connect_timeout,
            answer_timeout=answer_timeout,
            heartbeat=heartbeat,
            max_outgoing=max_outgoing,
            waits=when_full == "wait",
            max_incoming=max_incoming,
            on_state=on_state or (lambda change: None),
        )
        self._parts: Parts | None = None

    async def __aenter__(self) -> Self:
        """Connect. Raises Unreachable after ``connect_timeout``, and Disconnected at once where it can never work."""
        if self._parts is not None:
            raise RuntimeError("a client can be entered once")
        self._parts = Parts(self._options)
        try:
            await self._parts.links.open()
        except BaseException:
            await self._parts.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._entered.close()

    @property
    def state(self) -> State:
        """The state of the connection. A client that is not entered yet is CONNECTING."""
        return State.CONNECTING if self._parts is None else self._parts.links.first.latest.state

    @property
    def client_id(self) -> str:
        """The name that the server knows this client by."""
        return self._options.client_id if self._parts is None else self._parts.peer.client_id

    async def publish(
        self,
        topic: str,
        payload: Any,
        *,
        id: str | None = None,
        ttl_sec: float | None = None,
        expect_seq: int | None = None,
    ) -> Published:
        """Publish, and return once the message is in the topic.

        If the connection is lost before the answer, the message is sent again with the same ``id`` (a UUID, made here
        if there is none). On a topic with ``dedup_sec`` it is published once; on any other it may be there twice.

        Raises AnswerTimeout, after which it may or may not be published; OutgoingFull, PayloadError, TooBig,
        Disconnected; TopicNotFound, Forbidden, Conflict (for ``expect_seq``) and the other kinds of Refused.
        """
        return await self._entered.outgoing.publish(
            publish_request(topic, payload, id=id, ttl_sec=ttl_sec, expect_seq=expect_seq)
        )

    async def publish_many(
        self, topic: str, payloads: Iterable[Any], *, ttl_sec: float | None = None
    ) -> list[Published]:
        """Publish messages in this order, without waiting for the answer to one before the next.

        One that the server refuses for the client's rate is sent again, and may come behind later ones.

        If one fails, no further one is sent and its error is raised, with ``index``: that of the payload, from 0. Those
        before it were published.
        """
        requests = (publish_request(topic, each, ttl_sec=ttl_sec) for each in payloads)
        return await self._entered.outgoing.publish_all(requests)

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

    @overload
    def subscribe(
        self,
        topic: str,
        *,
        type: object = Any,
        last_n: int = 0,
        filter: str | None = None,
        params: Mapping[str, Any] | None = None,
        resume: Mapping[str, Position | Mapping[str, Any]] | None = None,
        echo: bool = True,
        mend: bool = True,
        notices: bool = False,
        load: Callable[[], Awaitable[Any]] | None = None,
    ) -> Subscription[Any]: ...

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
        """Make a subscription to a topic or a pattern; it begins in ``async with``.

        ``last_n``: older messages to begin with. ``filter`` and ``params``: CEL, and values for it. ``resume``: the
        ``position`` of an earlier subscription, whose next messages come first; then ``last_n`` has no effect, but if
        the position of a single topic is empty. ``type``: of the payloads, as msgspec,
        pydantic or Python has it. ``echo``: False leaves out what this client publishes. ``mend``: False gives a Gap
        for what was dropped, rather than to fetch it from the history. ``notices``: yield Notice too. ``load``: is
        called when the subscription has begun; what it returns is ``state``, and the items are those after it.
        """
        if load is not None and (resume or last_n):
            raise ValueError("load: what it returns is the state up to now, so resume and last_n have no effect")
        wish = wish_of(topic, last_n=last_n, filter=filter, params=params, resume=resume, notices=notices)
        parts = self._entered
        own = None if echo else parts.peer.own_ids
        rules = InboxRules(decode=decoder_of(type), limit=self._options.max_incoming, own=own, mends=mend)
        return Subscription(parts.links, wish, rules, load)

    @overload
    async def history(
        self,
        topic: str,
        *,
        type: builtins.type[T],
        last_n: int | None = None,
        after: int | None = None,
        limit: int = 1000,
        filter: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> History[T]: ...

    @overload
    async def history(
        self,
        topic: str,
        *,
        type: object = Any,
        last_n: int | None = None,
        after: int | None = None,
        limit: int = 1000,
        filter: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> History[Any]: ...

    async def history(
        self,
        topic: str,
        *,
        type: Any = Any,
        last_n: int | None = None,
        after: int | None = None,
        limit: int = 1000,
        filter: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> History[Any]:
        """Fetch kept messages: the newest ``last_n``, or up to ``limit`` of those after ``after`` (a ``seq``).

        Without both, the oldest ones. ``type``: of the payloads. Raises PayloadError for one that is not of it.
        """
        request = history_request(topic, last_n=last_n, after=after, filter=filter, params=params)
        return await self._entered.questions.history(request, limit, decoder_of(type))

    async def ping(self) -> float:
        """Ask the server for an answer, and return the seconds up to it. All that it sent before has come then."""
        return await self._entered.questions.ping()

    async def presence(self, topic: str) -> Presence:
        """Fetch the clients of a topic with the option ``presence``."""
        return await self._entered.questions.presence(topic)

    async def topics(self, prefix: str = "") -> list[TopicSummary]:
        """Fetch all topics whose name begins with ``prefix``, sorted by name."""
        return await self._entered.rest.find_topics(prefix)

    async def topic(self, name: str) -> TopicDetails:
        """Fetch one topic with its options. Raises TopicNotFound."""
        return await self._entered.rest.describe(name)

    async def create_topic(self, name: str, **options: Any) -> None:
        """Create a topic. ``options`` are those of the protocol, such as ``durable=True``. Raises TopicExists."""
        await self._entered.rest.create(name, options)

    async def delete_topic(self, name: str) -> None:
        """Delete a topic; its subscribers are told. Raises TopicNotFound."""
        await self._entered.rest.delete(name)

    async def purge(self, name: str) -> int:
        """Have a topic forget all messages that it keeps, and return their number."""
        return await self._entered.rest.purge(name)

    @property
    def _entered(self) -> Parts:
        if self._parts is None:
            raise RuntimeError("use a client in 'async with Client(…) as client'")
        return self._parts
