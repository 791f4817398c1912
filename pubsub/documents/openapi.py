"""The OpenAPI document, made from the table of routes and the types of their bodies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

from pubsub import __version__
from pubsub.documents.curl import curl
from pubsub.documents.schemas import NAME, PATTERN, PLACE, Schema, Schemas, first_sentence
from pubsub.documents.wording import CALLS, TAGS
from pubsub.http.routes import JSON, ROUTES, Route, RouteRole
from pubsub.protocol.answers import DeadLetter, ErrorAnswer
from pubsub.protocol.errors import BadRequest, Failure, Forbidden, Internal, RateLimited, Unauthorized
from pubsub.protocol.replies import Error, Event, Info

ABOUT: Final = """\
Topics, messages and clients of a publish/subscribe server. Messages also go over a WebSocket at `/ws`, which
`/asyncapi.json` describes.

Requests and answers are JSON. Every error has the body `{"error":"<text>"}`, for every path and method. Each `GET` but
`/ws` accepts `HEAD` too. A server with API keys or tokens requires one in each call, unless the call says otherwise; a
server without them requires none."""

ROLES: Final = {
    RouteRole.NONE: "Needs no key and no token.",
    RouteRole.HANDSHAKE: "A server with tokens needs one here, or in the first message.",
    RouteRole.STREAM: "Needs a key of any role, or a token that may subscribe to the topics.",
    RouteRole.IDENTIFIED: "Needs a key of any role, or a token. A token sees the topics that it may subscribe to.",
    RouteRole.PUBLISH: "Needs a key with the role `publish` or `admin`, or a token that may publish to the topic.",
    RouteRole.READ: "Needs a key of any role, or a token with `admin`.",
    RouteRole.ADMIN: "Needs a key with the role `admin`, or a token with `admin`.",
}
OPENING: Final = (RouteRole.HANDSHAKE, RouteRole.STREAM)
EMPTY: Final = (101, 204, 302)  # statuses without a body
LAST_EVENT_ID: Final = "Resume after this id; an EventSource sends it by itself."
ASKING: Final = (Unauthorized, Forbidden, RateLimited)  # the failures of every call that needs credentials
BY_KEY: Final = {"apiKey": list[str]()}
BY_TOKEN: Final = {"token": list[str]()}
IN_URL: Final = {"tokenInUrl": list[str]()}
SECURITY: Final = {
    RouteRole.NONE: [],
    RouteRole.HANDSHAKE: [BY_TOKEN, IN_URL, {}],
    RouteRole.STREAM: [BY_KEY, BY_TOKEN, IN_URL],
}
SCHEMES: Final[Schema] = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The key of a service."},
    "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "The token of a client."},
    "tokenInUrl": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "The same token, for browsers. URLs are written to logs: use short-lived ones.",
    },
}
HEADERS: Final[Schema] = {
    "Location": {"description": "The address of the page.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait before the next request.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}},
    "X-Client-Id": {"description": "The name that the server has made.", "schema": {"type": "string"}},
}
HEADERS_OF: Final = {101: "X-Client-Id", 302: "Location", 401: "WWW-Authenticate", 429: "Retry-After"}
# Parameters that no type has.
IN_PATH: Final[Schema] = {
    "name": {"description": "The name of the topic.", "schema": {"type": "string"} | NAME},
    "file": {"description": "The name of the file.", "schema": {"type": "string", "minLength": 1}},
    "client_id": {"description": "The client.", "schema": {"type": "string", "minLength": 1}},
}
NAME_OR_PATTERN: Final[Schema] = {
    "description": "The name of the topic, or a pattern.", "schema": {"type": "string"} | PATTERN,
}  # fmt: skip
ERROR: Final = {JSON: {"schema": {"$ref": f"{PLACE}ErrorAnswer"}}}


def make_openapi() -> Schema:
    bodies = [kind for route in ROUTES for kind in (route.request, route.response, route.query) if kind is not None]
    schemas = Schemas([*bodies, ErrorAnswer, DeadLetter, Event, Info, Error])
    paths: Schema = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = operation(route, schemas)
    queries = {route.query.__name__ for route in ROUTES if route.query is not None}  # they stand as parameters
    return {
        "openapi": "3.1.0",
        "info": {"title": "pubsub", "version": __version__, "description": ABOUT},
        "servers": [{"url": "/", "description": "this server"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": {name: each for name, each in schemas.components.items() if name not in queries},
            "securitySchemes": SCHEMES,
            "headers": HEADERS,
        },
    }


def operation(route: Route, schemas: Schemas) -> Schema:
    """The description of one call."""
    call = CALLS[f"{route.method} {route.path}"]
    found: Schema = {
        "operationId": call.name,
        "tags": [call.tag],
        "summary": call.summary,
        "description": f"{call.description} {ROLES[route.role]}".strip(),
        "security": SECURITY.get(route.role, [BY_KEY, BY_TOKEN]),
        "parameters": list(parameters(route, schemas)),
        "responses": responses(route, schemas),
    }
    if route.role is not RouteRole.HANDSHAKE:
        found["x-codeSamples"] = [{"lang": "Shell", "label": "curl", "source": curl(route, call.query)}]
    if route.request is not None:
        content = {JSON: {"schema": schemas.shape(route.request)}}
        found["requestBody"] = {"required": call.needs_body, "content": content}
    return found


def parameters(route: Route, schemas: Schemas) -> Iterator[Schema]:
    for name in re.findall(r"\{(\w+)\}", route.path):
        described = NAME_OR_PATTERN if route.role is RouteRole.STREAM else IN_PATH[name]
        yield {"name": name, "in": "path", "required": True, **described}
    for name, schema, required in schemas.properties(route.query) if route.query is not None else ():
        yield {
            "name": name,
            "in": "query",
            "required": required,
            "description": schema["description"],
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
    if route.role is RouteRole.HANDSHAKE:
        yield {"name": "client_id", "in": "query", "description": "A label.", "schema": {"type": "string"}}
    elif route.role is RouteRole.STREAM:
        yield {"name": "Last-Event-ID", "in": "header", "description": LAST_EVENT_ID, "schema": {"type": "string"}}


def responses(route: Route, schemas: Schemas) -> Schema:
    """The answers by status: first those of success, then the errors."""
    found: Schema = {str(status): success(route, status, schemas) for status in route.statuses}
    texts: dict[int, dict[str, None]] = {}
    for failure in failures_of(route):
        texts.setdefault(failure.status, {})[first_sentence(failure.__doc__)] = None
    for status in sorted(texts):
        found.setdefault(str(status), answer(status, " ".join(texts[status]), ERROR))
    if missing := CALLS[f"{route.method} {route.path}"].missing:
        found["404"] = answer(404, missing, ERROR)
    if route.role is RouteRole.HANDSHAKE:
        found["426"] = answer(426, "The handshake asks for another version of WebSocket than 13.", ERROR)
    return found | {"default": answer(0, "Any other error.", ERROR)}


def failures_of(route: Route) -> Iterator[type[Failure]]:
    if "{" in route.path or route.request is not None or route.query is not None or route.role in OPENING:
        yield BadRequest
    if route.role is not RouteRole.NONE:
        yield from ASKING
    yield from route.failures
    yield Internal


def success(route: Route, status: int, schemas: Schemas) -> Schema:
    text = HTTPStatus(status).phrase
    if status in EMPTY:
        return answer(status, text, None)
    if route.response is not None:
        shape = schemas.shape(route.response)
    else:
        shape = {"type": "object" if route.media == JSON else "string"}
    return answer(status, text, {route.media: {"schema": shape}})


def answer(status: int, text: str, content: Schema | None) -> Schema:
    found: Schema = {"description": text}
    if name := HEADERS_OF.get(status):
        found["headers"] = {name: {"$ref": f"#/components/headers/{name}"}}
    return found if content is None else found | {"content": content}
