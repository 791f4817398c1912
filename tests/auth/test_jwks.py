"""The keys of an identity provider: fetched only when needed, and kept while the provider is down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from aiohttp import web

from pubsub.auth.jwks import CHECKED_AT_ONCE, KeySet
from pubsub.auth.tokens import Outcome, Tokens
from pubsub.auth.trust import Trust
from tests.auth.test_tokens import P256, RSA, jwk
from tests.credentials import HANDSHAKE, bearer, claims
from tests.harness import PATIENCE, eventually, run_server

OLD, NEW = jwk(RSA, kid="old"), jwk(P256, kid="new")


class Provider:
    """An identity provider that publishes ``keys`` and counts the requests; it can be down or slow."""

    def __init__(self) -> None:
        self.keys: list[Any] = [OLD]
        self.asked = 0
        self.answer: bytes | None = None
        self.status = 200
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.url = ""

    async def serve(self, request: web.Request) -> web.Response:
        self.asked += 1
        await self.may_answer.wait()
        body = self.answer if self.answer is not None else json.dumps({"keys": self.keys}).encode()
        return web.Response(status=self.status, body=body)


@contextlib.asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    app, found = web.Application(), Provider()
    app.router.add_get("/jwks", found.serve)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    try:
        yield found
    finally:
        await runner.cleanup()


def by_old() -> str:
    return jwt.encode(claims(), RSA, "RS256", headers={"kid": "old"})


def by_new() -> str:
    return jwt.encode(claims(), P256, "ES256", headers={"kid": "new"})


@contextlib.asynccontextmanager
async def kept(keys: KeySet) -> AsyncIterator[None]:
    """Renew the keys as long as the context lasts."""
    keys.start()
    try:
        yield
    finally:
        await keys.stop()


async def identify(tokens: Tokens, token: str) -> str:
    """Return the client's id, or the error text."""
    answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    tokens.identify(token, answer.set_result)
    async with asyncio.timeout(PATIENCE):
        outcome = await answer
    return getattr(outcome, "client_id", "") or str(outcome)


async def test_the_first_token_waits_for_the_first_keys() -> None:
    async with provider() as source:
        source.may_answer.clear()
        keys = KeySet(source.url, ())
        async with kept(keys):
            waiting = asyncio.create_task(identify(Tokens(Trust(source=keys)), by_old()))
            await eventually(lambda: source.asked == 1)
            assert not waiting.done()
            source.may_answer.set()
            assert await waiting == "alice"


async def test_row_21_a_flood_of_unknown_kids_is_one_request() -> None:
    async with provider() as source:
        keys = KeySet(source.url, ())
        tokens = Tokens(Trust(source=keys))
        async with kept(keys):
            assert await identify(tokens, by_old()) == "alice"
            for number in range(100):
                unknown = jwt.encode(claims(), RSA, "RS256", headers={"kid": f"../../{number}"})
                assert await identify(tokens, unknown) == "token: kid: not a key that is trusted here"
            assert source.asked == 1


async def test_a_new_key_is_fetched_once_the_pause_is_over() -> None:
    async with provider() as source:
        keys = KeySet(source.url, (), least_pause=0.05)
        tokens = Tokens(Trust(source=keys))
        async with kept(keys):
            assert await identify(tokens, by_old()) == "alice"
            source.keys = [NEW]
            while await identify(tokens, by_new()) != "alice":  # noqa: ASYNC110 - no event signals the end of the pause
                await asyncio.sleep(0.01)
            assert source.asked == 2
            assert "kid" in await identify(tokens, by_old())  # withdrawn


@pytest.mark.parametrize(
    ("status", "answer"),
    [(500, None), (404, None), (200, b"<html>"), (200, b'{"keys":[]}'), (200, b" " * 2_000_000), (302, None)],
)
async def test_row_21_the_last_good_keys_are_kept(
    status: int, answer: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with provider() as source:
        keys = KeySet(source.url, (), least_pause=0.01)
        tokens = Tokens(Trust(source=keys))
        async with kept(keys):
            assert await identify(tokens, by_old()) == "alice"
            source.status, source.answer = status, answer if answer is not None else b""
            while source.asked < 3:
                await identify(tokens, by_new())
                await asyncio.sleep(0.005)
            await eventually(lambda: "Keys not renewed" in caplog.text)
            assert await identify(tokens, by_old()) == "alice"


async def test_a_source_that_is_down_at_the_start_is_asked_again() -> None:
    async with provider() as source:
        source.status = 503
        keys = KeySet(source.url, (), least_pause=0.01)
        tokens = Tokens(Trust(source=keys))
        async with kept(keys):
            assert "kid" in await identify(tokens, by_old())
            source.status = 200
            await eventually(lambda: bool(keys.keys))
            assert await identify(tokens, by_old()) == "alice"


async def test_the_server_keeps_nobody_waiting_for_it() -> None:
    """Tokens come by header, URL and first message; while the provider is silent, others are served."""
    async with provider() as source:
        source.may_answer.clear()
        async with run_server(jwt_jwks_url=source.url) as server:

            async def by_url() -> int:
                async with server.http.ws_connect(f"/ws?token={by_old()}") as websocket:
                    return 101 if not websocket.closed else 0

            opening = asyncio.create_task(by_url())
            async with server.client(None) as client:
                await client.send({"type": "auth", "token": by_old(), "request_id": "a"})
                await client.send({"type": "ping", "request_id": "p"})
                assert (await server.get("/health"))["topics"] == 0
                assert not opening.done()
                source.may_answer.set()
                assert [(await client.receive())["type"] for _ in range(2)] == ["ack", "pong"]
                assert await opening == 101


async def test_who_waited_for_a_key_may_find_the_server_full() -> None:
    async with provider() as source:
        source.may_answer.clear()
        async with run_server(jwt_jwks_url=source.url, max_connections=1) as server:

            async def by_header() -> int:
                async with server.http.get("/ws", headers=HANDSHAKE | bearer(by_old())) as response:
                    return response.status

            opening = asyncio.create_task(by_header())
            await eventually(lambda: source.asked == 1)
            async with server.client(None):
                source.may_answer.set()
                assert await opening == 503


async def test_row_49_who_waited_is_answered_in_slices() -> None:
    """A thousand tokens without a break would delay all other clients."""
    async with provider() as source:
        keys = KeySet(source.url, ())
        served: list[int] = []  # for each token, the iteration of the loop
        turn = 0
        for _ in range(5 * CHECKED_AT_ONCE):
            keys.refresh(lambda: served.append(turn))
        async with kept(keys), asyncio.timeout(PATIENCE):
            while len(served) < 5 * CHECKED_AT_ONCE:
                await asyncio.sleep(0)
                turn += 1
        assert max(Counter(served).values()) <= CHECKED_AT_ONCE


async def test_a_failure_that_nobody_thought_of_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("nobody thought of it")

    async with provider() as source:
        keys = KeySet(source.url, (), least_pause=0.01)
        tokens = Tokens(Trust(source=keys))
        monkeypatch.setattr("pubsub.auth.jwks.jwks_keys", fail)
        async with kept(keys):
            assert "kid" in await identify(tokens, by_old())
            monkeypatch.undo()
            await eventually(lambda: bool(keys.keys))
            assert await identify(tokens, by_old()) == "alice"
    assert "nobody thought of it" in caplog.text


async def test_who_waits_too_long_is_sent_away() -> None:
    async with provider() as source:
        source.may_answer.clear()
        async with run_server(jwt_jwks_url=source.url, auth_wait_sec=0.2) as server, server.client(None) as client:
            await client.send({"type": "auth", "token": by_old()})
            await client.send({"type": "ping"})
            assert await client.closed() == 4401
            source.may_answer.set()
