"""Steps of the wall clock by an hour, in either direction, under a running server: no time limit may change."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest

from tests.credentials import SECRET, make_token
from tests.harness import PATIENCE, Client, ServerProcess, on_one_loop

LIBFAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
HOUR = 3600
STEPS = pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])


@contextmanager
def server_with_a_clock(tmp_path: Path, **settings: str) -> Iterator[tuple[ServerProcess, Path]]:
    """Start a server; yield it and the file that holds the offset of its wall clock in seconds."""
    if LIBFAKETIME is None:
        assert os.environ.get("CI") != "true", "needs libfaketime: apt-get install faketime"
        pytest.skip("needs libfaketime: apt-get install faketime")
    offset = tmp_path / "offset"
    offset.write_text("+0")
    environment = {
        "LD_PRELOAD": str(LIBFAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with ServerProcess(environment=environment | settings) as server:
        yield server, offset


async def ping_time(client: Client) -> float:
    """Return the server's wall clock time."""
    pong = await client.ask({"type": "ping"})
    return datetime.fromisoformat(pong["ts"]).timestamp()


async def step_clock(client: Client, offset: Path, step: int) -> None:
    """Step the clock, and check that the server sees the step: otherwise the test would prove nothing."""
    before = await ping_time(client)
    set_clock(offset, step)
    assert abs(await ping_time(client) - before - step) < HOUR / 2


def set_clock(offset: Path, step: int) -> None:
    offset.write_text(f"{step:+d}")


@STEPS
@on_one_loop
async def test_row_44_heartbeat_and_timeouts_do_not_follow_the_clock(step: int, tmp_path: Path) -> None:
    beat = {"PING_PERIOD_SEC": "0.1", "PONG_WAIT_SEC": "3", "READ_TIMEOUT_SEC": "1"}
    with server_with_a_clock(tmp_path, **beat) as (server, offset):
        await server.create("orders")
        async with aiohttp.ClientSession(server.url) as http, http.ws_connect("/ws", autoping=False) as websocket:
            client = Client(websocket)
            await client.subscribe("orders")
            await step_clock(client, offset, step)
            for _ in range(5):
                await next_ping(websocket)
            await client.publish("orders", 1)
            await client.publish("orders", 2)
            assert [event["seq"] for event in client.others if event["type"] == "event"] == [1, 2]
            async with asyncio.timeout(PATIENCE):  # and a silent client is still closed, in time
                while (await websocket.receive()).type is not aiohttp.WSMsgType.CLOSED:
                    pass


async def next_ping(websocket: aiohttp.ClientWebSocketResponse) -> None:
    async with asyncio.timeout(PATIENCE):
        while (frame := await websocket.receive()).type is not aiohttp.WSMsgType.PING:
            assert frame.type is aiohttp.WSMsgType.TEXT
        await websocket.pong(frame.data)


@STEPS
@on_one_loop
async def test_row_22_a_token_lasts_as_long_as_it_was_to_last(step: int, tmp_path: Path) -> None:
    """On an open connection the step changes nothing; a new connection uses the new clock."""
    with server_with_a_clock(tmp_path, JWT_SECRET=SECRET) as (server, offset):
        short, long = make_token(exp=time.time() + 3), make_token(exp=time.time() + HOUR / 4)
        async with (
            aiohttp.ClientSession(server.url) as http,
            http.ws_connect(f"/ws?token={short}") as brief,
            http.ws_connect(f"/ws?token={long}") as lasting,
        ):
            await step_clock(Client(lasting), offset, step)
            await Client(brief).sync()
            assert await Client(brief).closed() == 4401
            await Client(lasting).sync()
            await check_new_connection(http, long, accepted=step < 0)


async def check_new_connection(http: aiohttp.ClientSession, token: str, *, accepted: bool) -> None:
    try:
        async with http.ws_connect(f"/ws?token={token}") as websocket:
            await Client(websocket).sync()
        assert accepted
    except aiohttp.WSServerHandshakeError as refusal:
        assert not accepted
        assert refusal.status == 401  # noqa: PT017 - the other case raises nothing
