"""Events, gaps and notices as lines."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from pubsub.cli.printed import Item, as_json, as_text
from pubsub.client import Event, Gap, Notice
from tests.client.test_terminal import is_inert

ID = "550e8400-e29b-41d4-a716-446655440000"


def event(payload: bytes, sender: str | None = None) -> Event[Raw]:
    return Event("orders", 17, "e", ID, Raw(payload), "2025-08-25T10:00:00Z", sender)


@pytest.mark.parametrize(
    ("item", "text", "line"),
    [
        (
            event(b'{"n": 1.50}'),
            f'[orders] #17 {ID}: {{"n": 1.50}}',
            f'{{"type":"event","topic":"orders","seq":17,"epoch":"e","id":"{ID}","payload":{{"n": 1.50}},'
            '"ts":"2025-08-25T10:00:00Z"}',
        ),
        (
            event(b"[1,\r\n\t2]", "al\x9bice"),
            rf"[orders] #17 {ID} from al\u009bice: [1,2]",
            f'{{"type":"event","topic":"orders","seq":17,"epoch":"e","id":"{ID}","payload":[1,2],'
            r'"ts":"2025-08-25T10:00:00Z","sender":"al\u009bice"}',
        ),
        (
            Gap("orders", "e", 101, 107, 7, "dropped"),
            "gap: 7 messages of orders (#101 to #107): dropped",
            '{"type":"gap","topic":"orders","epoch":"e","from_seq":101,"to_seq":107,"count":7,"reason":"dropped"}',
        ),
        (
            Gap("orders", "e", 101, 101, 1, "lost"),
            "gap: 1 message of orders (#101 to #101): no longer kept",
            '{"type":"gap","topic":"orders","epoch":"e","from_seq":101,"to_seq":101,"count":1,"reason":"lost"}',
        ),
        (
            Gap("orders", "f", None, None, None, "created_again"),
            "gap: orders was deleted and created again; messages may be missing",
            '{"type":"gap","topic":"orders","epoch":"f","from_seq":null,"to_seq":null,"count":null,'
            '"reason":"created_again"}',
        ),
        (
            Notice("topic_created", "orders.eu", epoch="e"),
            "topic created: orders.eu",
            '{"type":"notice","kind":"topic_created","topic":"orders.eu","epoch":"e"}',
        ),
        (
            Notice("topic_deleted", "orders"),
            "topic deleted: orders",
            '{"type":"notice","kind":"topic_deleted","topic":"orders"}',
        ),
        (
            Notice("joined", "room.1", client_id="alice"),
            "joined room.1: alice",
            '{"type":"notice","kind":"joined","topic":"room.1","client_id":"alice"}',
        ),
        (
            Notice("unsubscribed", "orders.*", reason="forbidden"),
            "unsubscribed from orders.*: forbidden",
            '{"type":"notice","kind":"unsubscribed","topic":"orders.*","reason":"forbidden"}',
        ),
    ],
)
def test_items_as_lines(item: Item, text: str, line: str) -> None:
    assert as_text(item).decode() == f"{text}\n"
    assert as_json(item).decode() == f"{line}\n"


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.recursive(ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner)), ANY_TEXT)
def test_any_payload_is_one_line_that_is_inert_and_still_the_same_json(payload: object, sender: str) -> None:
    for text in (msgspec.json.encode(payload), json.dumps(payload, ensure_ascii=False, indent="\t").encode()):
        line = as_json(event(text, sender)).decode()
        assert all(map(is_inert, line.removesuffix("\n")))
        read = json.loads(line)
        assert (read["payload"], read["sender"]) == (payload, sender)
        assert all(map(is_inert, as_text(event(text, sender)).decode().removesuffix("\n")))
