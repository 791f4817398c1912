"""Query parameters, bodies and answers of the calls that the dashboard makes, as types.

The names and shapes are the contract's (docs/protocol.md). No I/O.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from pubsub.protocol.answers import ClientRow, TopicDescription
from pubsub.protocol.calls import NamePart, ScopeQuery
from pubsub.protocol.requests import MAX_CLIENT_ID

MAX_PAGE_NUMBER = 1_000_000
MAX_ROWS = 200

Order = Literal["asc", "desc"]
PageNumber = Annotated[int, Meta(ge=1, le=MAX_PAGE_NUMBER)]
Rows = Annotated[int, Meta(ge=1, le=MAX_ROWS)]
State = Literal["ok", "degraded", "draining"]


class TopicRanking(ScopeQuery, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """A page of the topics with ``search`` in their name, in an order. Pages count from 1."""

    search: NamePart = ""
    sort: Literal["name", "messages", "subscribers"] = "name"
    order: Order = "asc"
    page: PageNumber = 1
    limit: Rows = 50


class ClientRanking(ScopeQuery, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """A page of the connections of clients with ``search`` in their name, in an order. Pages count from 1."""

    search: Annotated[str, Meta(max_length=MAX_CLIENT_ID)] = ""
    sort: Literal["client_id", "connected_sec", "queued", "dropped", "stalled_sec", "round_trip_ms"] = "connected_sec"
    order: Order = "desc"
    page: PageNumber = 1
    limit: Rows = 50


class RankedTopics(Struct, frozen=True, gc=False):
    """``found``: all topics that match."""

    topics: list[TopicDescription]
    found: int
    missing: list[str] | UnsetType = UNSET


class RankedClients(Struct, frozen=True, gc=False):
    """``found``: all connections that match."""

    clients: list[ClientRow]
    found: int
    missing: list[str] | UnsetType = UNSET


class May(Struct, frozen=True, gc=False):
    """The rights of the client that asks."""

    publish: bool
    change: bool


class Arrivals(Struct, frozen=True, gc=False):
    """The connections that subscribed in the first five minutes after the start of the server, the last deployment.

    ``moved``: those whose first subscription resumed from a position, so they were connected before; ``new``: the
    others. ``recovered`` and ``told``: subscriptions that resumed without a loss, and those that were told of a gap.
    """

    moved: int
    new: int
    recovered: int
    told: int


class Series(Struct, frozen=True, gc=False, kw_only=True):
    """The last 15 minutes. Each list has a value for each moment of ``at`` (in Unix time); null is not known.

    Rates are of a second, times in milliseconds.
    """

    at: list[int]
    published: list[float]
    delivered: list[float]
    delivered_bytes: list[float]
    lost: list[float]
    p50_ms: list[float | None]
    p99_ms: list[float | None]
    loop_lag_ms: list[float | None]
    memory_bytes: list[int]
    connections: list[int]
    queued: list[int]


class ServerRow(Struct, frozen=True, gc=False, kw_only=True):
    """One of several servers. ``published`` and ``delivered``: messages in the last second; published ones anywhere."""

    server: str
    state: State
    version: str
    uptime_sec: int
    connections: int
    subscribers: int
    lagging: int
    queued: int
    published: float
    delivered: float
    memory_bytes: int


class Overview(Struct, frozen=True, gc=False, kw_only=True):
    """The state of the server. ``lost`` and ``ended``: in the last 15 minutes, by reason, those that are not 0.

    ``run``: another one after each start of the server. Where several share their topics, ``server`` is the id of this
    one, ``servers`` are all, and ``missing`` those that did not answer in time.
    """

    run: str
    state: State
    reason: str | UnsetType = UNSET
    version: str
    started: str
    uptime_sec: int
    may: May
    topics: int
    subscribers: int
    connections: int
    lagging: int
    queued: int
    lost: dict[str, int]
    ended: dict[str, int]
    arrivals: Arrivals
    series: Series
    server: str | UnsetType = UNSET
    servers: list[ServerRow] | UnsetType = UNSET
    missing: list[str] | UnsetType = UNSET


class CommitTimes(Struct, frozen=True, gc=False, kw_only=True):
    """Group commits since the start. The times are in milliseconds; null without a commit."""

    count: int
    failures: int
    mean_ms: float | None
    p50_ms: float | None
    p99_ms: float | None


class Storage(Struct, frozen=True, gc=False, kw_only=True):
    """The journal of durable topics. ``files``: the size of each. ``commits`` is null as long as there is no journal.

    ``free_bytes``: the space that is left; null if it is not known.
    """

    durable_topics: int
    memory_topics: int
    failure: str
    files: dict[str, int]
    free_bytes: int | None
    waiting_bytes: int
    commits: CommitTimes | None


class SettingRow(Struct, frozen=True, gc=False, kw_only=True):
    """A setting in force. ``value`` is masked if the setting is a secret. ``live``: it can change without a restart."""

    name: str
    value: str | int | float
    default: str | int | float
    meaning: str
    live: bool
    masked: bool


class SettingList(Struct, frozen=True, gc=False):
    settings: list[SettingRow]


class TokenTest(Struct, frozen=True, gc=False, kw_only=True):
    """A token, and a topic for which its rights are wanted."""

    token: str
    topic: NamePart = ""


class TopicRights(Struct, frozen=True, gc=False, kw_only=True):
    """The rights to one topic. ``because``: in words. ``filters``: those that each event has to match."""

    topic: str
    subscribe: bool
    publish: bool
    because: str
    filters: list[str]


class TokenReport(Struct, frozen=True, gc=False, kw_only=True):
    """The rights of a token. If it is not accepted, ``reason`` says why, and there are none."""

    accepted: bool
    reason: str = ""
    client_id: str = ""
    expires_in_sec: int = 0
    admin: bool = False
    subscribe: list[str] = []
    publish: list[str] = []
    filters: dict[str, str] = {}
    rights: TopicRights | None = None
