"""Texts of the documents as HTML: the few marks of Markdown that they use, and schemas in words. All is escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from typing import Any, Final

from pubsub.documents.schemas import PLACE, Schema

BOUNDS: Final = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}
SIZES: Final = {"Length": "characters", "Items": "items", "Properties": "entries"}


def phrase(text: str) -> str:
    """A line of text, with ``code`` in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


def prose(text: str) -> str:
    """Paragraphs and lists, parted by empty lines."""
    return "".join(_block(block.splitlines()) for block in re.split(r"\n\s*\n", text.strip()) if block)


def _block(lines: list[str]) -> str:
    if all(line.startswith("- ") for line in lines):
        return f"<ul>{''.join(f'<li>{phrase(line[2:])}</li>' for line in lines)}</ul>"
    return f"<p>{phrase(' '.join(lines))}</p>"


def code(value: Any) -> str:
    """JSON, indented."""
    return f"<pre><code>{escape(json.dumps(value, indent=2, ensure_ascii=False), quote=False)}</code></pre>"


def kind(schema: Schema) -> str:
    """The kind of values of a schema; a type with a name is a link to it."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(PLACE)
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        by_name_first = sorted(schema["anyOf"], key=lambda each: "$ref" not in each)
        return " or ".join(dict.fromkeys(map(kind, by_name_first)))
    if "const" in schema or "enum" in schema:
        return " or ".join(
            f"<code>{escape(json.dumps(each))}</code>" for each in schema.get("enum") or [schema["const"]]
        )
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'])}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object, each value: {kind(schema['additionalProperties'])}"
    return str(schema.get("type", "any JSON value"))


def limits(schema: Schema) -> Iterator[str]:
    """The limits of a schema, each in a few words."""
    for each in schema.get("anyOf", ()):
        yield from limits(each)
    for key, words in BOUNDS.items():
        if key in schema:
            yield f"{words} {schema[key]:,}"
    for key, unit in SIZES.items():
        least, most = schema.get(f"min{key}"), schema.get(f"max{key}")
        if most is not None:
            bounds = f"at most {most:,}" if least is None else f"{least} to {most:,}"
            yield f"{most:,} {unit}" if least == most else f"{bounds} {unit}"
    if schema.get("default") not in (None, "", {}):
        yield f"default {json.dumps(schema['default'])}"
    if "pattern" in schema:
        yield f"<code>{escape(schema['pattern'], quote=False)}</code>"
