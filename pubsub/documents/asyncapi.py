"""The AsyncAPI document of the WebSocket, made from the types of its messages. It speaks for the server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, get_args

from pubsub import __version__
from pubsub.documents.examples import TIME
from pubsub.documents.schemas import PLACE, Schema, Schemas, first_sentence
from pubsub.documents.wording import EXCHANGES, NOTICES, STREAMS, Notice
from pubsub.protocol.errors import CloseReason, Failure
from pubsub.protocol.replies import Info, Reply
from pubsub.protocol.requests import MAX_CLIENT_ID, AnyRequest

ABOUT: Final = """\
The messages of a publish/subscribe server over its WebSocket. `/openapi.json` describes its REST calls, with the same
events as Server-Sent Events.

Each message is one text frame with a JSON object. Each request gets exactly one answer, with its `request_id`: the one
that is named with it, or an `error`. Answers come in the order of the requests, except those to publishes to durable
topics, which come when the message is on disk. Nothing comes before the first request but the heartbeat: a WebSocket
ping frame, and the notice `ping`.

Ignore unknown fields and messages: later versions may add some. Write integers without a fraction and an exponent.
"""
CHANNEL: Final = "#/channels/websocket"
CODE: Final[dict[str, Any]] = {
    "type": "string",
    "enum": sorted(each.code for each in Failure.__subclasses__() if each.by_websocket),
}
QUERY: Final[Schema] = {
    "type": "object",
    "properties": {
        "client_id": {
            "type": "string",
            "maxLength": MAX_CLIENT_ID,
            "description": "The client; without it the server makes a name, and sends it in the header X-Client-Id.",
        },
        "token": {"type": "string", "description": "A JWT; URLs are written to logs."},
    },
}
SERVER: Final[Schema] = {
    "variables": {"host": {"default": "localhost:8080", "description": "The address of the server."}},
    "host": "{host}",
    "security": [{"$ref": "#/components/securitySchemes/token"}, {"$ref": "#/components/securitySchemes/tokenInUrl"}],
}
SCHEMES: Final[Schema] = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The token of a client. A browser sends it as its first message, `auth`.",
    },
    "tokenInUrl": {"type": "httpApiKey", "in": "query", "name": "token", "description": "The same token, in the URL."},
}


def make_asyncapi() -> Schema:
    schemas = Schemas([*get_args(AnyRequest), *get_args(Reply)])
    schemas.components["Problem"]["properties"]["code"] |= CODE
    notices = {name: notice for name, notice in NOTICES.items() if notice.by != STREAMS}
    info = schemas.components.pop(Info.__name__)
    schemas.components |= {schema_name(name): notice_schema(name, each, info) for name, each in notices.items()}
    messages = {name: message(name, each) for name, each in schemas.components.items() if "type" in each["properties"]}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "pubsub", "version": __version__, "description": ABOUT + endings()},
        "defaultContentType": "application/json",
        "servers": {
            "plain": SERVER | {"protocol": "ws", "description": "Without TLS."},
            "secure": SERVER | {"protocol": "wss", "description": "With TLS."},
        },
        "channels": {"websocket": channel(messages)},
        "operations": operations(list(notices)),
        "components": {
            "messages": messages,
            "schemas": schemas.components,
            "securitySchemes": SCHEMES,
            "correlationIds": {"request": {"location": "$message.payload#/request_id"}},
        },
    }


def schema_name(notice: str) -> str:
    """``topic_created`` is ``TopicCreatedNotice``."""
    return f"{notice.title().replace('_', '')}Notice"


def notice_schema(name: str, notice: Notice, info: Schema) -> Schema:
    """The schema of one kind of ``info``."""
    always = ["type", "msg", *notice.always, "ts"]
    properties = {field: info["properties"][field] for field in [*always, *notice.sometimes]}
    properties["msg"] = properties["msg"] | {"const": name}
    return {
        "title": schema_name(name),
        "description": notice.meaning,
        "type": "object",
        "properties": properties,
        "required": always,
        "examples": [{"type": "info", "msg": name, **notice.example, "ts": TIME}],
    }


def message(name: str, schema: Schema) -> Schema:
    """The message with this schema."""
    kind, msg = (schema["properties"].get(field, {}).get("const") for field in ("type", "msg"))
    found: Schema = {
        "name": f"{kind} {msg}" if msg else kind,
        "title": name,
        "summary": schema.get("description", ""),
        "payload": {"$ref": f"{PLACE}{name}"},
        "examples": [{"payload": each} for each in schema["examples"]],
    }
    if "request_id" in schema["properties"]:
        found["correlationId"] = {"$ref": "#/components/correlationIds/request"}
    return found


def channel(messages: Iterable[str]) -> Schema:
    return {
        "address": "/ws",
        "title": "The WebSocket",
        "description": "The handshake is a GET over HTTP/1.1. Wait for its answer before you send anything.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"ws": {"method": "GET", "query": QUERY, "bindingVersion": "0.1.0"}},
    }


def operations(notices: Iterable[str]) -> Schema:
    """The requests with their answers, then all that comes without a request."""
    return {
        **{kind.__struct_config__.tag: request(kind.__name__) for kind in get_args(AnyRequest)},
        "event": sending("A message of a topic to which the client is subscribed", ["Event"]),
        "info": sending("A notice that is no answer", map(schema_name, notices)),
        "refusal": sending("An error that is no answer: the server closes the connection", ["Error"]),
    }


def request(name: str) -> Schema:
    exchange = EXCHANGES[name]
    return {
        "action": "receive",
        "channel": {"$ref": CHANNEL},
        "summary": exchange.summary,
        "description": exchange.description,
        "messages": [message_of_channel(name)],
        "reply": {
            "channel": {"$ref": CHANNEL},
            "messages": [message_of_channel(each) for each in (*exchange.answers, "Error")],
        },
    }


def sending(summary: str, messages: Iterable[str]) -> Schema:
    return {
        "action": "send",
        "channel": {"$ref": CHANNEL},
        "summary": summary,
        "messages": [message_of_channel(each) for each in messages],
    }


def message_of_channel(name: str) -> Schema:
    return {"$ref": f"{CHANNEL}/messages/{name}"}


def endings() -> str:
    """The errors and the close codes, as two lists in Markdown."""
    errors = [
        f"- `{each.code}`: {first_sentence(each.__doc__)}" for each in Failure.__subclasses__() if each.by_websocket
    ]
    closes = [f"- {each.code}: {each.reason}" for each in CloseReason]
    return "\n".join(["", "Errors:", "", *errors, "", "Close codes of the server:", "", *closes])
