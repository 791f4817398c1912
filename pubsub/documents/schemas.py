"""JSON Schemas of the wire contract, made from the types with which the server decodes and encodes it.

Meanings, examples and the limits that a type cannot have are added; no field is listed here that no type has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Any, Final, get_args

import msgspec
from msgspec import Struct

from pubsub.documents.examples import EXAMPLES
from pubsub.documents.meanings import meaning_of
from pubsub.filters.cel import MAX_TEXT
from pubsub.filters.filters import MAX_PARAMS
from pubsub.protocol.calls import CURSOR_SYNTAX
from pubsub.protocol.patterns import MAX_TOPIC, PATTERN_SYNTAX, TOPIC_SYNTAX

Schema = dict[str, Any]

PLACE: Final = "#/components/schemas/"
NAME: Final = {"pattern": f"^{TOPIC_SYNTAX}$", "minLength": 1, "maxLength": MAX_TOPIC}
PATTERN: Final = {"pattern": f"^{PATTERN_SYNTAX}$", "minLength": 1, "maxLength": MAX_TOPIC}
UUID: Final = {"pattern": "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$", "minLength": 36, "maxLength": 36}
TIME: Final = {"format": "date-time"}
CURSOR: Final = {"pattern": f"^{CURSOR_SYNTAX}$"}
EVENTS: Final = {"items": {"$ref": f"{PLACE}Event"}}
FILTER: Final = {"maxLength": MAX_TEXT}
PARAMS: Final = {"type": "object", "description": f"Values for the filter, at most {MAX_PARAMS:,} bytes."}

# Limits that are checked after the decoding, by field: "Type.field" counts before "field".
LIMITS: Final[Mapping[str, Schema]] = {
    "ts": TIME,
    "filter": FILTER,
    "NewTopic.name": NAME,
    "Subscribe.topic": PATTERN,
    "Subscribe.params": PARAMS,
    "Unsubscribe.topic": PATTERN,
    "Publish.topic": NAME,
    "History.topic": NAME,
    "History.params": PARAMS,
    "Presence.topic": NAME,
    "Message.id": UUID,
    "NewMessage.id": UUID,
    "TraceQuery.message": UUID,
    "ClientsQuery.cursor": CURSOR,
    "ClientQuery.cursor": CURSOR,
    "KeptMessages.messages": EVENTS,
    "HistoryReply.messages": EVENTS,
    "DeadLetter.messages": EVENTS,
    "StreamQuery.topic": {"items": {"type": "string"} | PATTERN},
    **{f"{name}.status": {"const": "ok"} for name in ("Ack", "PublishAck", "SubscribeAck", "PatternAck")},
}
# Rules about several fields.
RULES: Final[Mapping[str, Schema]] = {
    name: {"oneOf": [{"required": ["after"]}, {"required": ["last_n"]}]} for name in ("History", "HistoryQuery")
}
# Fields that their type requires, for speed, and that may be left out on the wire.
OPTIONAL: Final = {"PublishAck.request_id"}


def members(kind: Any) -> list[Any]:
    """The types of a union of Structs, and any other type alone."""
    kinds = get_args(kind)
    is_union = isinstance(kind, UnionType) and all(isinstance(each, type) for each in kinds)
    return list(kinds) if is_union else [kind]


class Schemas:
    """The schemas of all ``kinds`` and of the types within them. ``components`` are those that have a name."""

    def __init__(self, kinds: Iterable[Any]) -> None:
        flat = [member for kind in kinds for member in members(kind)]
        shapes, components = msgspec.json.schema_components(flat, ref_template=f"{PLACE}{{name}}")
        self._shapes = list(zip(flat, shapes, strict=True))
        self.components: dict[str, Schema] = {name: _complete(name, each) for name, each in sorted(components.items())}

    def shape(self, kind: Any) -> Schema:
        """The schema of one of the kinds, by reference if it has a name."""
        found = [self._shape(member) for member in members(kind)]
        return found[0] if len(found) == 1 else {"anyOf": found}

    def _shape(self, kind: Any) -> Schema:
        return next(shape for each, shape in self._shapes if each == kind)

    def properties(self, kind: type[Struct]) -> Iterator[tuple[str, Schema, bool]]:
        """The fields of a type: name, schema, and True if it is required."""
        schema = self.components[kind.__name__]
        for name, field in schema["properties"].items():
            yield name, field, name in schema["required"]


def _complete(name: str, schema: Schema) -> Schema:
    """The schema of a type with what msgspec does not know."""
    found: Schema = schema | RULES.get(name, {})
    if "description" in found:
        found["description"] = plain(found["description"])
    found["required"] = [field for field in schema["required"] if f"{name}.{field}" not in OPTIONAL]
    found["properties"] = {field: _field(name, field, shape) for field, shape in schema["properties"].items()}
    if name in EXAMPLES:
        found["examples"] = [EXAMPLES[name]]
    return found


def _field(name: str, field: str, shape: Schema) -> Schema:
    limits = LIMITS.get(f"{name}.{field}", LIMITS.get(field, {}))
    described = {"description": meaning_of(name, field)} | shape | limits
    if described.get("enum", ()) and len(described["enum"]) == 1:
        described["const"] = described.pop("enum")[0]
    return described


def plain(docstring: str) -> str:
    """The first paragraph of a docstring, as Markdown."""
    first = docstring.partition("\n\n")[0]
    return re.sub(r"\s+", " ", first).replace("``", "`").strip()


def first_sentence(docstring: str | None) -> str:
    return plain(docstring or "").partition(". ")[0].rstrip(".") + "."
