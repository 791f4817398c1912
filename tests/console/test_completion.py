"""Completion at the prompt."""

from __future__ import annotations

import aiohttp
import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from yarl import URL

from pubsub.client.requests import TOPIC_OPTIONS
from pubsub.client.rest import RestClient
from pubsub.console.completion import CommandCompleter, TopicNames
from tests.harness import on_one_loop

TOPICS = ["chat", "orders.eu", "orders.us.east"]


async def completions(text: str) -> list[str]:
    async with aiohttp.ClientSession() as http:
        topics = TopicNames(RestClient(http, URL("http://127.0.0.1")))
    topics.known = TOPICS
    completer = CommandCompleter(topics, lambda: ["orders.*", "chat"])
    return [each.text for each in completer.get_completions(Document(text), CompleteEvent())]


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("pu", ["pub ", "purge "]),
        ("help pres", ["presence "]),
        ("help pub pres", ["presence "]),
        ("sub o", ["orders.eu ", "orders.us.east "]),
        ("sub orders.", ["orders.eu ", "orders.us.east ", "orders.* ", "orders.> "]),
        ("sub orders.us.", ["orders.us.east ", "orders.us.* ", "orders.us.> "]),
        ("sub nothing.", []),
        ("unsub ", ["orders.* ", "chat ", "orders.eu ", "orders.us.east "]),
        ("presence c", ["chat "]),
        ("purge orders.", ["orders.eu ", "orders.us.east "]),
        ("redrive chat ", ["after=", "limit="]),
        ("topics ", []),
        ("why ", []),
        ("why alice c", ["chat "]),
        ("why alice chat ", []),
        ("sub chat ", ["last=", "filter=", "params="]),
        ("sub chat last=5 ", ["filter=", "params="]),
        ("sub chat filter='payload.a > ", []),
        ("sub chat filter='payload.a > p", []),
        ("sub chat filter='payload.a > params.b' p", ["params="]),
        ("pub chat ", ["ttl=", "expect="]),
        ("pub chat ttl=5 e", ["expect="]),
        ("pub chat hello e", []),
        ("create t durable overflow=d", ["overflow=drop_oldest ", "overflow=drop_newest ", "overflow=disconnect "]),
        ("create t ", [f"{name}=" for name in TOPIC_OPTIONS] + [
            f"overflow={policy} " for policy in ("drop_oldest", "drop_newest", "latest", "disconnect")]),
        ("nonsense ", []),
        ("'", []),
    ],
)  # fmt: skip
@on_one_loop
async def test_completions(text: str, offered: list[str]) -> None:
    assert await completions(text) == offered
