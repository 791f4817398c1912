"""Answers of REST calls as types.

The names and shapes are the contract's (docs/protocol.md). Where several servers share their topics, ``server`` is the
one that a row is from, and ``missing`` those that did not answer in time; without such, both are left out. No I/O.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from pubsub.protocol.replies import PresentClient
from pubsub.protocol.requests import Seconds, TopicOptions

Status = Literal["draining", "degraded"]


class TopicCreated(Struct, frozen=True, gc=False, kw_only=True):
    status: Literal["created"] = "created"
    topic: str


class TopicDeleted(Struct, frozen=True, gc=False, kw_only=True):
    status: Literal["deleted"] = "deleted"
    topic: str


class TopicRow(Struct, frozen=True, gc=False):
    """``subscribers`` counts connections."""

    name: str
    subscribers: int


class TopicList(Struct, frozen=True, gc=False):
    topics: list[TopicRow]
    missing: list[str] | UnsetType = UNSET


class TopicDescription(Struct, frozen=True, gc=False, kw_only=True):
    """``messages``: ever published. ``bytes``: of the messages that the topic keeps."""

    name: str
    epoch: str
    seq: int
    messages: int
    subscribers: int
    bytes: int
    options: TopicOptions
    missing: list[str] | UnsetType = UNSET


class TopicPage(Struct, frozen=True, gc=False):
    """``next`` is the ``after`` of the following page; null on the last one."""

    topics: list[TopicDescription]
    next: str | None
    missing: list[str] | UnsetType = UNSET


class KeptMessages(Struct, frozen=True, gc=False, kw_only=True):
    """``messages``: complete events, oldest first. ``complete``: none of those that were asked for is gone."""

    topic: str
    epoch: str
    messages: list[Raw]
    complete: bool


class Published(Struct, frozen=True, gc=False, kw_only=True):
    """The outcome of one message, or of each in a list. ``duplicate`` is left out where nothing is one."""

    status: Literal["published"] = "published"
    topic: str
    seq: int | list[int]
    id: str | list[str]
    duplicate: bool | list[bool] | UnsetType = UNSET


class Purged(Struct, frozen=True, gc=False, kw_only=True):
    status: Literal["purged"] = "purged"
    topic: str
    messages: int


class TopicClients(Struct, frozen=True, gc=False):
    """``count``: of all clients. ``clients``: the first ones by name."""

    topic: str
    count: int
    clients: list[PresentClient]


class TopicStats(Struct, frozen=True, gc=False):
    """``messages``: ever published."""

    messages: int
    subscribers: int


class Stats(Struct, frozen=True, gc=False):
    topics: dict[str, TopicStats]
    missing: list[str] | UnsetType = UNSET


class Health(Struct, frozen=True, gc=False, kw_only=True):
    """``subscribers``: connections with a subscription. Without a ``status`` all is well.

    ``server`` is the id of this one, ``servers`` the number of all, where several share their topics.
    """

    uptime_sec: int
    topics: int
    subscribers: int
    status: Status | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    server: str | UnsetType = UNSET
    servers: int | UnsetType = UNSET


TransportName = Literal["websocket", "sse"]
TraceOutcome = Literal[
    "sent", "queued", "filtered", "dropped", "expired", "not_subscribed", "forbidden", "disconnected", "unknown"
]


class ClientRow(Struct, frozen=True, gc=False, kw_only=True):
    """One connection. ``bytes_in`` and ``bytes_out`` are null if the kernel does not count them.

    ``stalled_sec``: seconds for which it has taken nothing, 0 if nothing waits. ``round_trip_ms``: of the last
    heartbeat; null before it, and for streams.
    """

    client_id: str
    transport: TransportName
    connected_sec: int
    subscriptions: list[str]
    queued: int
    dropped: int
    bytes_in: int | None
    bytes_out: int | None
    stalled_sec: int
    round_trip_ms: int | None
    server: str | UnsetType = UNSET


class ClientPage(Struct, frozen=True, gc=False):
    """``next`` is the ``cursor`` of the following page; null on the last one."""

    clients: list[ClientRow]
    next: str | None
    missing: list[str] | UnsetType = UNSET


class EndedRow(Struct, frozen=True, gc=False, kw_only=True):
    """A connection that has ended. ``code``: the close code of the server; null if it sent none."""

    client_id: str
    transport: TransportName
    connected_at: str
    ended_at: str
    ending: str
    code: int | None
    reason: str
    dropped: int
    server: str | UnsetType = UNSET


class EndedPage(Struct, frozen=True, gc=False):
    """The newest first. ``next`` is the ``cursor`` of the following page; null on the last one."""

    clients: list[EndedRow]
    next: str | None
    missing: list[str] | UnsetType = UNSET


class ClientDescription(Struct, frozen=True, gc=False, kw_only=True):
    """One client. ``ended``: its connections that have ended and are remembered, the newest first."""

    client_id: str
    connections: list[ClientRow]
    next: str | None
    ended: list[EndedRow]
    missing: list[str] | UnsetType = UNSET


class SlowRow(Struct, frozen=True, gc=False, kw_only=True):
    """The events of one topic that wait for one connection. ``lag_sec``: the age of the oldest one."""

    client_id: str
    topic: str
    queued: int
    lag_sec: int
    lag_bytes: int
    server: str | UnsetType = UNSET


class SlowList(Struct, frozen=True, gc=False):
    slow: list[SlowRow]
    missing: list[str] | UnsetType = UNSET


class TracedConnection(Struct, frozen=True, gc=False, kw_only=True):
    """The fate of a message at one connection. ``subscribed_at`` is null without a subscription."""

    outcome: TraceOutcome
    detail: str
    subscribed_at: str | None
    connected_at: str
    server: str | UnsetType = UNSET


class Trace(Struct, frozen=True, gc=False, kw_only=True):
    """``message`` and ``published_at`` are null if the topic does not keep the message any more."""

    client_id: str
    topic: str
    message: str | None
    seq: int
    published_at: str | None
    connections: list[TracedConnection]
    missing: list[str] | UnsetType = UNSET


class ClientDisconnected(Struct, frozen=True, gc=False, kw_only=True):
    status: Literal["disconnected"] = "disconnected"
    client_id: str
    connections: int
    missing: list[str] | UnsetType = UNSET


class TopicRule(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A rule for the topics whose names ``pattern`` covers, as TOPIC_RULES_FILE has it.

    ``create``: the first subscribe by name or publish creates the topic. ``delete_idle_sec``: the topic is deleted when
    it has had neither a subscriber nor a publish for so long. ``options``: defaults for options of the topic.
    """

    pattern: str
    create: bool = False
    delete_idle_sec: Seconds | UnsetType = UNSET
    options: dict[str, Any] = {}


class RuleList(Struct, frozen=True, gc=False):
    rules: list[TopicRule]


class ErrorAnswer(Struct, frozen=True, gc=False):
    """The body of every answer with a status of 400 or more. ``seq``: of the topic, if a publish expected another.

    ``missing``: servers that may know the client that was not found.
    """

    error: str
    seq: int | UnsetType = UNSET
    missing: list[str] | UnsetType = UNSET


class DeadLetter(Struct, frozen=True, gc=False, kw_only=True):
    """The payload of a message in a dead-letter topic: what one client lost in another topic.

    ``client_id`` is None for the losses of several clients, which were over the limit of letters. ``count`` is exact;
    ``messages`` are complete events, as far as they are kept.
    """

    reason: str
    topic: str
    client_id: str | None
    from_seq: int
    to_seq: int
    count: int
    messages: list[Raw]


class Redriven(Struct, frozen=True, gc=False, kw_only=True):
    """``skipped``: messages whose content is no longer kept, or whose topic is gone."""

    status: Literal["redriven"] = "redriven"
    letters: int
    messages: int
    skipped: int
