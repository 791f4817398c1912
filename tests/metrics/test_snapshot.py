"""Sums over many topics: in slices, and never smaller than before, whatever ends and begins meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pubsub.http.app_keys import BROKER
from pubsub.http.metrics import SOURCES
from pubsub.metrics import snapshot
from pubsub.metrics.exposition import PLAIN, TOPICS_AT_ONCE, write_metrics
from pubsub.metrics.snapshot import SUMMED_AT_ONCE, slices, take_snapshot
from tests.harness import Server, on_one_loop, run_server

TOPICS = 10_000


def test_slices_are_whole() -> None:
    assert list(slices(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(slices([], 2)) == []


async def rounds_of(work: asyncio.Future[Any]) -> int:
    """The number of turns that others get before ``work`` is done."""
    rounds = 0
    while not work.done():
        rounds += 1
        await asyncio.sleep(0)
    await work
    return rounds


@on_one_loop
async def test_a_scrape_with_many_topics_lets_others_have_their_turns() -> None:
    async with run_server(metrics_topics=TOPICS) as server:
        for number in range(TOPICS):
            server.app[BROKER].create_topic(f"topic.{number}")
        sources = server.app[SOURCES]
        assert await rounds_of(asyncio.ensure_future(take_snapshot(sources))) >= TOPICS // SUMMED_AT_ONCE
        written = asyncio.ensure_future(write_metrics(sources, PLAIN))
        assert await rounds_of(written) >= TOPICS // TOPICS_AT_ONCE
        assert written.result().count(b"pubsub_topic_subscribers{") == TOPICS


async def published(server: Server) -> tuple[int, int]:
    found = await take_snapshot(server.app[SOURCES])
    return found.published.messages, found.durable + found.in_memory


@on_one_loop
async def test_what_ends_and_begins_during_the_sum_leaves_it_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "slices", lambda whole: slices(whole, 1))
    async with run_server() as server:
        await server.create("a", "b", "c")
        for topic in ("a", "b", "c"):
            server.publish_locally(topic, [1, 2])
        summing = asyncio.ensure_future(published(server))
        await asyncio.sleep(0)
        server.app[BROKER].delete_topic("c")
        server.app[BROKER].create_topic("d")
        server.publish_locally("d", [1])
        assert await summing == (6, 3)
        assert await published(server) == (7, 3)
