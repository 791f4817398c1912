"""The scope of an answer: the server that is asked, or all that share their topics. Nothing here knows a route."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web
from msgspec import UNSET, UnsetType

from pubsub.http.app_keys import CLUSTER
from pubsub.http.query import read_known
from pubsub.protocol.calls import Scope, ScopeQuery
from pubsub.protocol.replies import encode

if TYPE_CHECKING:
    from pubsub.cluster.cluster import Cluster


@dataclass(frozen=True, slots=True)
class Others:
    """The answers of other servers, and those that did not answer in time."""

    found: Mapping[str, bytes]
    missing: Sequence[str]


NOBODY: Final = Others({}, ())


async def ask_others(
    cluster: Cluster | None, kind: str, body: bytes = b"", servers: Collection[str] | None = None
) -> Others:
    """Ask the other servers, or some of them; nobody if the answer need not speak for them."""
    if cluster is None:
        return NOBODY
    answers = await cluster.ask(kind, body, servers)
    return Others(answers.found, answers.missing)


def cluster_for(request: web.Request, scope: Scope) -> Cluster | None:
    """The servers for which the answer has to speak; None if it is for the one that is asked."""
    return None if scope == "server" else request.app.get(CLUSTER)


def read_cluster(request: web.Request) -> Cluster | None:
    """The same for a call without other parameters, which are ignored. Raises BadRequest."""
    return cluster_for(request, read_known(request, ScopeQuery).scope)


def server_of(app: web.Application) -> str | UnsetType:
    """The id of this server, if it is one of several."""
    return UNSET if (cluster := app.get(CLUSTER)) is None else cluster.server


def missing_of(servers: Sequence[str]) -> list[str] | UnsetType:
    """The field of an answer for servers that did not answer."""
    return list(servers) or UNSET


def missing_field(servers: Sequence[str]) -> bytes:
    """The same field at the end of an object that is written by hand."""
    return b',"missing":%b' % encode(list(servers)) if servers else b""
