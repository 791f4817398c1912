"""The console's subscriptions with a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from pubsub.client import BadRequest, Client, Event, PubsubError, TopicNotFound
from pubsub.console.commands import Subscribe
from pubsub.console.following import Following, Item, NotSubscribed
from tests.harness import Server, eventually, on_one_loop, run_server


class Session:
    """Subscriptions, with what they have shown."""

    def __init__(self, server: Server, client: Client) -> None:
        self.items: list[Item] = []
        self.failures: list[PubsubError] = []
        self.following = Following(client, show=self.items.append, fail=self.failures.append)
        self._server = server

    @property
    def payloads(self) -> list[bytes]:
        return [bytes(item.payload) for item in self.items if isinstance(item, Event)]

    async def shows(self, *payloads: Any) -> None:
        await eventually(lambda: self.payloads == [str(payload).encode() for payload in payloads])


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with run_server() as running:
        await running.create("orders")
        running.publish_locally("orders", [1, 2])
        yield running


@pytest.fixture
async def session(server: Server) -> AsyncIterator[Session]:
    async with Client(server.url) as client:
        session = Session(server, client)
        yield session
    assert session.failures == []


@on_one_loop
async def test_items_are_shown(server: Server, session: Session) -> None:
    assert await session.following.subscribe(Subscribe("orders", last=1)) == ["orders"]
    server.publish_locally("orders", [3])
    await session.shows(2, 3)
    assert session.following.names == ["orders"]
    await session.following.unsubscribe("orders")
    assert session.following.names == []


@on_one_loop
async def test_subscription_of_the_same_name_goes_on_with_another_filter(server: Server, session: Session) -> None:
    await session.following.subscribe(Subscribe("orders"))
    server.publish_locally("orders", [3])
    await session.following.subscribe(Subscribe("orders", filter="payload != params.other", params={"other": 5}))
    server.publish_locally("orders", [4, 5, 6])
    await session.shows(3, 4, 6)
    await session.following.subscribe(Subscribe("orders", last=2))
    await session.shows(3, 4, 6, 5, 6)


@on_one_loop
async def test_subscription_stays_if_the_server_refuses_another_one(server: Server, session: Session) -> None:
    await session.following.subscribe(Subscribe("orders"))
    with pytest.raises(BadRequest, match="filter"):
        await session.following.subscribe(Subscribe("orders", filter="payload."))
    server.publish_locally("orders", [3])
    await session.shows(3)


@on_one_loop
async def test_subscriptions_that_are_not_there(session: Session) -> None:
    with pytest.raises(TopicNotFound):
        await session.following.subscribe(Subscribe("none"))
    with pytest.raises(NotSubscribed, match="there is no subscription to 'none'"):
        await session.following.unsubscribe("none")
    assert session.following.names == []
