"""The calls and the messages in words, for people. What they contain is said by the types alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

TAGS: Final[Mapping[str, str]] = {
    "topics": "Topics, their options and their rules.",
    "messages": "Messages of a topic: publish, read, forget.",
    "streams": "Subscriptions: as Server-Sent Events, or over a WebSocket.",
    "clients": "Connected clients.",
    "server": "The state of the server, and its documents.",
    "dashboard": "The page at `/admin`, and the calls that it makes. They may change with it.",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A call of REST. ``name`` is its ``operationId``; ``needs_body``: its body may not be left out.

    ``query``: that of an example. ``missing``: the text of a 404 that no Failure stands for.
    """

    name: str
    tag: str
    summary: str
    description: str = ""
    needs_body: bool = True
    query: str = ""
    missing: str = ""


STREAM: Final = (
    "Each event is one block: `id:` is the position from which an EventSource resumes, `data:` the event as one line "
    "of JSON. Everything else is `event: info`. A comment is the heartbeat. A client that an operator disconnected "
    "gets 204 when it reconnects."
)

CALLS: Final[Mapping[str, Call]] = {
    "POST /topics": Call(
        "createTopic", "topics", "Create a topic",
        "An option that the body does not have is that of the rule that covers the name, or else its default.",
    ),
    "GET /topics": Call(
        "listTopics", "topics", "List the topics",
        "Without parameters: all topics, in the order of their creation. With any of them: a page, sorted by name, "
        "with all that is known about each topic.",
    ),
    "GET /topics/{name}": Call("describeTopic", "topics", "Describe a topic"),
    "DELETE /topics/{name}": Call(
        "deleteTopic", "topics", "Delete a topic and its messages", "Its subscribers get `topic_deleted`."
    ),
    "POST /topics/{name}/messages": Call(
        "publishMessages", "messages", "Publish a message, or a list of them",
        "All messages of a list are published, or none. The answer comes when they are in the topic; a durable topic "
        "has them on disk then.",
    ),
    "GET /topics/{name}/messages": Call(
        "readMessages", "messages", "Read messages that the topic keeps",
        "Those that follow `after`, or the last `last_n`: one of the two is required. With `after`, an answer with "
        "fewer messages than `limit` has the newest message.",
        query="last_n=10",
    ),
    "DELETE /topics/{name}/messages": Call(
        "purgeMessages", "messages", "Forget the messages that the topic keeps",
        "`seq` and `epoch` continue. A client that resumes from before is told the gap.",
    ),
    "POST /topics/{name}/redrive": Call(
        "redriveLetters", "messages", "Publish the messages of dead letters again",
        "`{name}` is a dead-letter topic; its messages have a DeadLetter as their payload. Each lost message is "
        "published to its own topic once, with its own id.",
        needs_body=False,
    ),
    "GET /topics/{name}/events": Call(
        "streamTopic", "streams", "Subscribe to a topic by Server-Sent Events", f"`{{name}}` may be a pattern. {STREAM}"
    ),
    "GET /events": Call(
        "streamTopics", "streams", "Subscribe to several names and patterns by Server-Sent Events",
        f"A message comes once, whatever number of them cover its topic. {STREAM}",
        query="topic=orders&topic=room.*",
    ),
    "GET /ws": Call(
        "openWebSocket", "streams", "Open a WebSocket", "`/asyncapi.json` describes the messages."
    ),
    "GET /rules": Call("listRules", "topics", "List the rules for topics", "Fields with default values are left out."),
    "GET /topics/{name}/presence": Call(
        "listPresent", "clients", "List the clients of a topic", "The topic needs the option `presence`."
    ),
    "GET /health": Call(
        "health", "server", "Ask if the server is healthy",
        "503 with `draining` during a shutdown. While durable topics cannot be stored, the engine of several servers "
        "is away, or a worker process does not serve, 200 with `degraded`: everything else works.",
    ),
    "GET /stats": Call("stats", "server", "Count the messages and subscribers of all topics"),
    "GET /metrics": Call(
        "metrics", "server", "Read the metrics for Prometheus", "In its text format, or as OpenMetrics if asked for."
    ),
    "GET /clients": Call("listClients", "clients", "List the connections",
                         "Oldest first, in pages; with `ended` those that have ended, newest first."),
    "GET /clients/{client_id}": Call(
        "describeClient", "clients", "Describe a client",
        "Its connections, in pages, and those that have ended and are remembered.",
    ),
    "GET /clients/{client_id}/trace": Call(
        "traceMessage", "clients", "Ask why a client did not get a message",
        "The message is named by its id, or by `topic` and `seq`. A row for each connection of the client tells the "
        "fate of the message there; `unknown` where the server does not know it any more.",
        query="topic=orders&seq=42",
    ),
    "GET /slow": Call(
        "listSlow", "clients", "List the slowest consumers",
        "The 100 with the most events that wait, by topic; or those of one topic.",
    ),
    "DELETE /clients/{client_id}": Call(
        "disconnectClient", "clients", "Disconnect a client",
        "All its connections are closed with 4403, and do not reconnect by themselves.",
    ),
    "GET /client.js": Call("client", "server", "Get the JavaScript client", "A module for browsers and Node."),
    "GET /client-more.js": Call("clientMore", "server", "Get the part of the JavaScript client that is seldom needed"),
    "GET /client.d.ts": Call("clientTypes", "server", "Get the types of the JavaScript client"),
    "GET /": Call("leadToDashboard", "dashboard", "Go to the dashboard"),
    "GET /admin": Call("dashboard", "dashboard", "Open the dashboard", "The page asks for a key itself."),
    "GET /admin/files/{file}": Call(
        "dashboardFile", "dashboard", "Get a script or a style of the dashboard", missing="There is no such file."
    ),
    "GET /admin/overview": Call("showOverview", "dashboard", "Show the state of the server, and its last 15 minutes"),
    "GET /admin/topics": Call("rankTopics", "dashboard", "Search and sort the topics", query="sort=messages"),
    "GET /admin/clients": Call("rankClients", "dashboard", "Search and sort the connections", query="sort=queued"),
    "GET /admin/storage": Call("showStorage", "dashboard", "Show the journal of durable topics, and its disk"),
    "GET /admin/settings": Call("showSettings", "dashboard", "Show the settings in force", "Secrets are masked."),
    "POST /admin/token": Call(
        "tryToken", "dashboard", "Try a token", "Tells what it allows, or why it is not accepted."
    ),
    "GET /openapi.json": Call("openapi", "server", "Describe the REST calls", "This document: OpenAPI 3.1."),
    "GET /asyncapi.json": Call("asyncapi", "server", "Describe the messages of the WebSocket", "AsyncAPI 3.0."),
    "GET /docs": Call("docs", "server", "Read both documents", "A page for people, without scripts."),
    "GET /docs.css": Call("docsStyle", "server", "Get the style of that page"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Notice:
    """An ``info``: the fields that it always has beside ``type``, ``msg`` and ``ts``, and those that it may have.

    ``by``: the transport that has it alone; empty if both have it. ``example``: the fields of an example.
    """

    meaning: str
    always: tuple[str, ...] = ()
    sometimes: tuple[str, ...] = ()
    by: str = ""
    example: Mapping[str, object] = field(default_factory=dict)


STREAMS: Final = "sse"
POSITION: Final = ("epoch", "seq", "topics")

NOTICES: Final[Mapping[str, Notice]] = {
    "ping": Notice("The heartbeat. No answer is needed."),
    "topic_created": Notice(
        "A topic has appeared that a pattern of the client covers. All its messages follow. With `seq`: a topic "
        "goes on in another epoch: the engine of several servers lost its newest messages; those after `seq` follow.",
        ("topic", "epoch"), ("seq",), example={"topic": "orders.us", "epoch": "07d3f16e52"},
    ),
    "topic_deleted": Notice(
        "The topic was deleted, and the subscription to it has ended; one to a pattern goes on.",
        ("topic",), example={"topic": "orders"},
    ),
    "unsubscribed": Notice(
        "No more messages of this topic or pattern come.",
        ("topic", "reason"), example={"topic": "orders", "reason": "forbidden"},
    ),
    "dropped": Notice(
        "A gap: the client does not get these messages. `history` has them as long as the topic keeps them.",
        ("topic", "count", "from_seq", "to_seq"),
        example={"topic": "orders", "count": 7, "from_seq": 101, "to_seq": 107},
    ),
    "joined": Notice(
        "Another client has entered the topic.", ("topic", "client_id"),
        example={"topic": "room.1", "client_id": "bob"},
    ),
    "left": Notice(
        "Another client has left the topic.", ("topic", "client_id"), example={"topic": "room.1", "client_id": "bob"}
    ),
    "draining": Notice(
        "The server is shutting down. The close follows.",
        ("reconnect_after_ms",), example={"reconnect_after_ms": 1830},
    ),
    "subscribed": Notice("The stream starts here, in place of an `ack`.", ("topic",), POSITION, STREAMS),
    "recovered": Notice("The stream starts here, after a resume.", ("topic", "recovered"), POSITION, STREAMS),
    "disconnected": Notice("An operator has disconnected the client. It must not reconnect by itself.", by=STREAMS),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request over the WebSocket, and the types of its positive answers by name."""

    summary: str
    answers: tuple[str, ...]
    description: str = ""


EXCHANGES: Final[Mapping[str, Exchange]] = {
    "Subscribe": Exchange(
        "Subscribe to a topic, or to all that a pattern covers", ("SubscribeAck", "PatternAck"),
        "The replay follows the answer, then new messages: none is missing or sent twice in between. A second "
        "subscription to the same name replaces the first.",
    ),
    "Unsubscribe": Exchange(
        "End a subscription", ("Ack",), "The answer comes after the last event of the topic."
    ),
    "Publish": Exchange(
        "Publish a message", ("PublishAck",),
        "The answer comes when the message is in the topic; a durable topic has it on disk then.",
    ),
    "Ping": Exchange("Test the connection", ("Pong",)),
    "History": Exchange("Get messages that a topic keeps", ("HistoryReply",), "No subscription is needed."),
    "Auth": Exchange(
        "Send a token", ("Ack",), "As the first message, or later, before the token in use expires."
    ),
    "Presence": Exchange("Get the clients of a topic with the option `presence`", ("PresenceReply",)),
}  # fmt: skip
