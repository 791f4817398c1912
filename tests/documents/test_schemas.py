"""The schemas of the contract: each field is explained, each example is valid, each limit is that of the server."""

from __future__ import annotations

import re
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, Struct

from pubsub.documents.asyncapi import make_asyncapi
from pubsub.documents.examples import EXAMPLES
from pubsub.documents.meanings import MEANINGS
from pubsub.documents.openapi import make_openapi
from pubsub.documents.schemas import LIMITS, NAME, OPTIONAL, PATTERN, RULES, UUID, Schemas, first_sentence, plain
from pubsub.http.routes import ROUTES
from pubsub.protocol import answers, calls, dashboard, replies, requests
from pubsub.protocol.errors import BadRequest
from pubsub.protocol.patterns import check_topic, is_pattern
from pubsub.protocol.requests import Message, check_message

MODULES = (answers, calls, dashboard, replies, requests)
KINDS: dict[str, type[Struct]] = {
    name: each
    for module in MODULES
    for name, each in vars(module).items()
    if isinstance(each, type) and issubclass(each, Struct) and each.__module__.startswith("pubsub.protocol")
}
QUERIES = [route.query for route in ROUTES if route.query is not None]
DOCUMENTS = make_openapi(), make_asyncapi()
COMPONENTS: dict[str, Any] = {}
for _document in DOCUMENTS:
    COMPONENTS |= _document["components"]["schemas"]
FIELDS = {f"{name}.{field}" for name, schema in COMPONENTS.items() for field in schema["properties"]}
FIELDS |= {f"{kind.__name__}.{field}" for kind in QUERIES for field, _, _ in Schemas([kind]).properties(kind)}
FIELDS |= {f"Info.{field.encode_name}" for field in msgspec.structs.fields(replies.Info)}
NAMES = FIELDS | {field.partition(".")[2] for field in FIELDS}


def test_no_meaning_and_no_limit_is_for_a_field_that_is_gone() -> None:
    assert not (MEANINGS.keys() | LIMITS.keys() | OPTIONAL) - NAMES
    assert not RULES.keys() - KINDS.keys()


def test_each_meaning_is_used() -> None:
    """One for all types of a field is not, if each type has its own."""
    used = {each if each in MEANINGS else each.partition(".")[2] for each in FIELDS}
    assert MEANINGS.keys() == used


def test_meanings_are_sentences() -> None:
    assert [text for text in MEANINGS.values() if not re.fullmatch(r"[A-Z`].*\.", text)] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_one_of_its_type(name: str) -> None:
    text = msgspec.json.encode(EXAMPLES[name])
    msgspec.json.decode(text, type=KINDS[name])
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": COMPONENTS}}
    jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(EXAMPLES[name])


def test_each_body_and_each_message_has_an_example() -> None:
    openapi, asyncapi = DOCUMENTS
    bodies = set(re.findall(r"#/components/schemas/(\w+)", str(openapi["paths"])))
    messages = {each["payload"]["$ref"].rpartition("/")[2] for each in asyncapi["components"]["messages"].values()}
    assert [name for name in bodies | messages if not COMPONENTS[name].get("examples")] == []


def test_both_documents_say_the_same_of_a_type() -> None:
    openapi, asyncapi = (each["components"]["schemas"] for each in DOCUMENTS)
    both = openapi.keys() & asyncapi.keys() - {"Problem"}  # over a WebSocket there are fewer codes
    assert both
    assert {name: openapi[name] for name in both} == {name: asyncapi[name] for name in both}


texts = st.text(st.sampled_from("aZ09_-:~.*>\n ä"), max_size=8) | st.text(max_size=4)
UUIDS = [
    "550e8400-e29b-41d4-a716-446655440000",
    "550E8400-E29B-41D4-A716-44665544000",
    "550e8400e29b41d4a716446655440000",
]


@given(texts)
def test_names_are_those_that_the_server_accepts(text: str) -> None:
    try:
        check_topic(text)
    except BadRequest:
        assert not fits(NAME, text)
    else:
        assert fits(NAME, text)


@given(texts)
def test_patterns_are_those_that_the_server_accepts(text: str) -> None:
    assert fits(PATTERN, text) == is_pattern(text)


@pytest.mark.parametrize("length", [255, 256])
def test_long_names(length: int) -> None:
    assert fits(NAME, "a" * length) == fits(PATTERN, "a" * length) == is_pattern("a" * length) == (length == 255)


@given(
    st.sampled_from(UUIDS).flatmap(lambda text: st.sampled_from([text, text + "\n", text[:-1], text.replace("5", "g")]))
)
def test_ids_are_those_that_the_server_accepts(text: str) -> None:
    try:
        check_message(Message(text, Raw(b"1")))
    except BadRequest:
        assert not fits(UUID, text)
    else:
        assert fits(UUID, text)


def fits(schema: dict[str, Any], text: str) -> bool:
    return jsonschema_rs.is_valid({"type": "string"} | schema, text)


def test_texts_are_taken_from_docstrings() -> None:
    assert plain("One ``code``\n    and more.\n\n    Not this.") == "One `code` and more."
    assert first_sentence("One. Two.") == first_sentence("One") == "One."
