"""Messages compared with the documents, which must describe all that the tests send and receive.

The documents let messages have fields that it does not know, for later versions. Here no message may have one.
"""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

import jsonschema_rs

from pubsub.documents.asyncapi import make_asyncapi, notice_schema, schema_name
from pubsub.documents.schemas import Schemas
from pubsub.documents.wording import NOTICES
from pubsub.protocol.replies import Error, Event, Info
from pubsub.protocol.requests import AnyRequest

Json = dict[str, Any]

REQUESTS = tuple(kind.__name__ for kind in get_args(AnyRequest))


def check_received(message: Any) -> None:
    """Check a message of the server."""
    if not received().is_valid(message):
        raise AssertionError(f"the AsyncAPI document does not describe {message}")


def check_request(message: Any) -> None:
    """Check a message of a client that the server has accepted."""
    if not is_request(message):
        raise AssertionError(f"the AsyncAPI document does not allow {message}, and the server accepts it")


def is_request(message: Any) -> bool:
    return requests().is_valid(message)


@cache
def received() -> jsonschema_rs.Draft7Validator:
    document = make_asyncapi()
    for schema in document["components"]["schemas"].values():
        schema["additionalProperties"] = False
    return validator(document, [name for name in document["components"]["messages"] if name not in REQUESTS])


def check_streamed(message: Any) -> None:
    """Check the data of a block of Server-Sent Events."""
    if not streamed().is_valid(message):
        raise AssertionError(f"no document describes {message}")


@cache
def streamed() -> jsonschema_rs.Draft7Validator:
    schemas = Schemas([Event, Error, Info]).components
    info = schemas.pop("Info")
    schemas |= {schema_name(name): notice_schema(name, each, info) for name, each in NOTICES.items() if name != "ping"}
    for schema in schemas.values():
        schema["additionalProperties"] = False
    within = {"Message", "Problem", "TopicPosition"}
    return validator({"components": {"schemas": schemas}}, schemas.keys() - within)


@cache
def requests() -> jsonschema_rs.Draft7Validator:
    return validator(make_asyncapi(), REQUESTS)


def validator(document: Json, names: Any) -> jsonschema_rs.Draft7Validator:
    """A validator for messages that have any of these names."""
    refs = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    return jsonschema_rs.Draft7Validator({"anyOf": refs, "components": document["components"]}, validate_formats=True)
