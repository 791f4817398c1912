"""The page on both documents: whole HTML, nothing from elsewhere, and everything in it."""

from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from pubsub.documents.asyncapi import make_asyncapi
from pubsub.documents.openapi import make_openapi
from pubsub.documents.page import make_page
from pubsub.documents.prose import code, kind, limits, phrase, prose

OPENAPI, ASYNCAPI = make_openapi(), make_asyncapi()
PAGE = make_page(OPENAPI, ASYNCAPI)
VOID = {"link", "meta"}


class Reader(HTMLParser):
    """Checks that each element is closed, and notes ids, links and elements."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.seen.add(tag)
        self.ids += [text for text in (found.get("id"),) if text]
        self.links += [text for text in (found.get("href"), found.get("src")) if text]
        assert not {name for name in found if name.startswith("on") or name == "style"}, found
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page() -> Reader:
    reader = Reader()
    reader.feed(PAGE)
    assert reader.open == []
    return reader


def test_it_loads_nothing_but_its_style(page: Reader) -> None:
    assert {link for link in page.links if not link.startswith("#")} == {"docs.css", "openapi.json", "asyncapi.json"}
    assert not page.seen & {"script", "style", "img", "iframe", "form", "object"}
    assert not re.search(r"https?://", PAGE)


def test_its_links_lead_somewhere(page: Reader) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_it_has_each_call_each_message_and_each_type(page: Reader) -> None:
    calls = {each["operationId"] for item in OPENAPI["paths"].values() for each in item.values()}
    messages = {f"op-{name}" for name in ASYNCAPI["operations"]}
    types = OPENAPI["components"]["schemas"].keys() | ASYNCAPI["components"]["schemas"].keys()
    assert set(page.ids) == calls | messages | types | {"main", "rest", "websocket", "types"}


def test_it_can_be_found_by_heading() -> None:
    ranks = [int(rank) for rank in re.findall(r"<h(\d)", PAGE)]
    assert ranks[0] == 1
    assert ranks.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(ranks))


def test_it_is_small() -> None:
    assert len(PAGE.encode()) < 200_000


def test_texts_are_escaped() -> None:
    assert phrase("<b> `a<b` & more") == "&lt;b&gt; <code>a&lt;b</code> &amp; more"
    assert prose("One\nline.\n\n- a\n- `b`") == "<p>One line.</p><ul><li>a</li><li><code>b</code></li></ul>"
    assert json.loads(unescape(code({"a": "<script>"}).removeprefix("<pre><code>").removesuffix("</code></pre>")))
    assert "<script>" not in code("<script>")


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, "any JSON value"),
        ({"$ref": "#/components/schemas/Event"}, '<a href="#Event">Event</a>'),
        ({"type": "array", "items": {"type": "string"}}, "list of string"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer or null"),
        ({"const": "a<b"}, "<code>&quot;a&lt;b&quot;</code>"),
        ({"enum": ["a", "b"]}, "<code>&quot;a&quot;</code> or <code>&quot;b&quot;</code>"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "object, each value: string"),
    ],
)
def test_kinds_in_words(schema: dict[str, object], words: str) -> None:
    assert kind(schema) == words


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"minimum": 1, "maximum": 1000, "default": 100}, ["at least 1", "at most 1,000", "default 100"]),
        ({"anyOf": [{"exclusiveMinimum": 0}, {"type": "null"}], "default": None}, ["above 0"]),
        ({"minLength": 1, "maxLength": 255}, ["1 to 255 characters"]),
        ({"minLength": 36, "maxLength": 36}, ["36 characters"]),
        ({"maxItems": 100}, ["at most 100 items"]),
    ],
)
def test_limits_in_words(schema: dict[str, object], words: list[str]) -> None:
    assert list(limits(schema)) == words
