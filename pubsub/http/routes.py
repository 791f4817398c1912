"""The table of routes. The router, access control and the documents read it, and nothing else lists a route."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from types import UnionType
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Struct

from pubsub.http import (
    clients,
    dashboard,
    dead_letters,
    documents,
    handshake,
    health,
    inspection,
    messages,
    metrics,
    presence,
    ranking,
    rules,
    servers_overview,
    slow,
    sse,
    static_files,
    topics,
    trace,
)
from pubsub.protocol import answers
from pubsub.protocol import dashboard as board
from pubsub.protocol.calls import (
    ClientQuery,
    ClientsQuery,
    HistoryQuery,
    NewMessages,
    Redrive,
    ScopeQuery,
    SlowQuery,
    StreamQuery,
    TopicsQuery,
    TopicStreamQuery,
    TraceQuery,
)
from pubsub.protocol.errors import (
    ClientNotFound,
    Conflict,
    Draining,
    Failure,
    LimitExceeded,
    MessageNotFound,
    NotStored,
    ServerFull,
    TopicExists,
    TopicNotFound,
)
from pubsub.protocol.requests import NewTopic

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
JAVASCRIPT: Final = "text/javascript"


class RouteRole(enum.Enum):
    """The least that a client must be for a route."""

    NONE = enum.auto()  # needs no credentials
    HANDSHAKE = enum.auto()  # the handshake of the WebSocket has rules of its own
    STREAM = enum.auto()  # a stream of events too
    IDENTIFIED = enum.auto()  # any key or token; the answer shows only what its holder may subscribe to
    PUBLISH = enum.auto()  # a key that may publish, or a token that may publish to some topic; the handler asks for it
    READ = enum.auto()  # a key of any role, or a token with ``admin``
    ADMIN = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """``request`` and ``response`` are the types of the bodies, ``query`` is that of the parameters; None is no JSON.

    A union of types: one of them, as the client chooses. ``statuses``: those with the response, the first one that of
    success; ``media``: the type of its content. ``failures``: the route's own; its role has some too.
    """

    method: str
    path: str
    handler: Handler
    role: RouteRole
    request: type[Struct] | UnionType | None = None
    response: type[Struct] | UnionType | None
    query: type[Struct] | None = None
    statuses: tuple[int, ...] = (200,)
    media: str = JSON
    failures: tuple[type[Failure], ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """A GET can be asked with HEAD too, if it is no handshake."""
        return ("GET", "HEAD") if self.method == "GET" and self.role is not RouteRole.HANDSHAKE else (self.method,)


ROUTES: Final = (
    Route(method="POST", path="/topics", handler=topics.create_topic, role=RouteRole.ADMIN,
          request=NewTopic, response=answers.TopicCreated,
          statuses=(201,), failures=(TopicExists, LimitExceeded, NotStored)),
    Route(method="GET", path="/topics", handler=topics.list_topics, role=RouteRole.IDENTIFIED,
          query=TopicsQuery, response=answers.TopicList | answers.TopicPage,
          failures=(NotStored,)),
    Route(method="GET", path="/topics/{name}", handler=topics.describe_topic, role=RouteRole.IDENTIFIED,
          query=ScopeQuery, response=answers.TopicDescription,
          failures=(TopicNotFound, NotStored)),
    Route(method="DELETE", path="/topics/{name}", handler=topics.delete_topic, role=RouteRole.ADMIN,
          response=answers.TopicDeleted,
          failures=(TopicNotFound, NotStored)),
    Route(method="POST", path="/topics/{name}/messages", handler=messages.publish_messages, role=RouteRole.PUBLISH,
          request=NewMessages, response=answers.Published,
          failures=(TopicNotFound, Conflict, LimitExceeded, NotStored)),
    Route(method="GET", path="/topics/{name}/messages", handler=messages.read_messages, role=RouteRole.IDENTIFIED,
          query=HistoryQuery, response=answers.KeptMessages,
          failures=(TopicNotFound, LimitExceeded, NotStored)),
    Route(method="DELETE", path="/topics/{name}/messages", handler=messages.purge_messages, role=RouteRole.ADMIN,
          response=answers.Purged,
          failures=(TopicNotFound, NotStored)),
    Route(method="POST", path="/topics/{name}/redrive", handler=dead_letters.redrive_letters, role=RouteRole.ADMIN,
          request=Redrive, response=answers.Redriven,
          failures=(TopicNotFound, LimitExceeded, NotStored)),
    Route(method="GET", path="/topics/{name}/events", handler=sse.open_topic_stream, role=RouteRole.STREAM,
          query=TopicStreamQuery, response=None,
          statuses=(200, 204), media=EVENT_STREAM, failures=(TopicNotFound, LimitExceeded, ServerFull, NotStored)),
    Route(method="GET", path="/events", handler=sse.open_stream_of_query, role=RouteRole.STREAM,
          query=StreamQuery, response=None,
          statuses=(200, 204), media=EVENT_STREAM, failures=(TopicNotFound, LimitExceeded, ServerFull, NotStored)),
    Route(method="GET", path="/rules", handler=rules.list_rules, role=RouteRole.ADMIN,
          response=answers.RuleList),
    Route(method="GET", path="/topics/{name}/presence", handler=presence.list_present, role=RouteRole.IDENTIFIED,
          query=ScopeQuery, response=answers.TopicClients,
          failures=(TopicNotFound, NotStored)),
    Route(method="GET", path="/health", handler=health.health, role=RouteRole.NONE,
          response=answers.Health,
          statuses=(200, 503)),
    Route(method="GET", path="/stats", handler=health.stats, role=RouteRole.IDENTIFIED,
          query=ScopeQuery, response=answers.Stats,
          failures=(NotStored,)),
    Route(method="GET", path="/metrics", handler=metrics.show_metrics, role=RouteRole.READ,
          response=None, media="text/plain"),
    Route(method="GET", path="/clients", handler=clients.list_clients, role=RouteRole.READ,
          query=ClientsQuery, response=answers.ClientPage | answers.EndedPage),
    Route(method="GET", path="/clients/{client_id}", handler=clients.describe_client, role=RouteRole.READ,
          query=ClientQuery, response=answers.ClientDescription,
          failures=(ClientNotFound,)),
    Route(method="GET", path="/clients/{client_id}/trace", handler=trace.trace_message, role=RouteRole.ADMIN,
          query=TraceQuery, response=answers.Trace,
          failures=(ClientNotFound, TopicNotFound, MessageNotFound, NotStored)),
    Route(method="GET", path="/slow", handler=slow.list_slow, role=RouteRole.READ,
          query=SlowQuery, response=answers.SlowList),
    Route(method="DELETE", path="/clients/{client_id}", handler=clients.disconnect_client, role=RouteRole.ADMIN,
          query=ScopeQuery, response=answers.ClientDisconnected,
          failures=(ClientNotFound,)),
    Route(method="GET", path="/", handler=dashboard.lead_to_page, role=RouteRole.NONE,
          response=None,
          statuses=(302,)),
    Route(method="GET", path="/admin", handler=dashboard.show_page, role=RouteRole.NONE,
          response=None, media="text/html"),
    Route(method="GET", path="/admin/files/{file}", handler=dashboard.serve_part, role=RouteRole.NONE,
          response=None, media=JAVASCRIPT),
    Route(method="GET", path="/admin/overview", handler=servers_overview.show_overview, role=RouteRole.READ,
          query=ScopeQuery, response=board.Overview),
    Route(method="GET", path="/admin/topics", handler=ranking.rank_topics, role=RouteRole.READ,
          query=board.TopicRanking, response=board.RankedTopics),
    Route(method="GET", path="/admin/clients", handler=ranking.rank_clients, role=RouteRole.READ,
          query=board.ClientRanking, response=board.RankedClients),
    Route(method="GET", path="/admin/storage", handler=inspection.show_storage, role=RouteRole.READ,
          response=board.Storage),
    Route(method="GET", path="/admin/settings", handler=inspection.show_settings, role=RouteRole.READ,
          response=board.SettingList),
    Route(method="POST", path="/admin/token", handler=inspection.try_token, role=RouteRole.ADMIN,
          request=board.TokenTest, response=board.TokenReport),
    Route(method="GET", path="/client.js", handler=static_files.serve_file, role=RouteRole.NONE,
          response=None, media=JAVASCRIPT),
    Route(method="GET", path="/client-more.js", handler=static_files.serve_file, role=RouteRole.NONE,
          response=None, media=JAVASCRIPT),
    Route(method="GET", path="/client.d.ts", handler=static_files.serve_file, role=RouteRole.NONE,
          response=None, media="application/typescript"),
    Route(method="GET", path="/openapi.json", handler=documents.show_openapi, role=RouteRole.NONE,
          response=None, media=JSON),
    Route(method="GET", path="/asyncapi.json", handler=documents.show_asyncapi, role=RouteRole.NONE,
          response=None, media=JSON),
    Route(method="GET", path="/docs", handler=documents.show_docs, role=RouteRole.NONE,
          response=None, media="text/html"),
    Route(method="GET", path="/docs.css", handler=static_files.serve_file, role=RouteRole.NONE,
          response=None, media="text/css"),
    Route(method="GET", path="/ws", handler=handshake.open_websocket, role=RouteRole.HANDSHAKE,
          response=None,
          statuses=(101,), failures=(LimitExceeded, ServerFull, Draining)),
)  # fmt: skip

_BY_CALL: Final = {(method, route.path): route for route in ROUTES for method in route.methods}


def add_routes(app: web.Application) -> None:
    """Have the Application serve each route of the table."""
    for route in ROUTES:
        for method in route.methods:
            app.router.add_route(method, route.path, route.handler)


def find_route(request: web.Request) -> Route | None:
    """The route of a request; None where its path is unknown, or has other methods."""
    resource = request.match_info.route.resource
    return _BY_CALL.get((request.method, resource.canonical)) if resource is not None else None
