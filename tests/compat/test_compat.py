"""The basic contract and a replay with clients that nobody here wrote: libraries, programs, a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from pubsub.client.testing import LocalServer, running_server
from tests.compat.browser import open_chromium
from tests.compat.contract import Wire, follow
from tests.compat.libraries import open_aiohttp, open_picows, open_websockets
from tests.compat.programs import open_go, open_node, open_wscat
from tests.harness import eventually, on_one_loop

CLIENTS: dict[str, Callable[[str], AbstractAsyncContextManager[Wire]]] = {
    "websockets": open_websockets,
    "aiohttp": open_aiohttp,
    "picows": open_picows,
    "node": open_node,
    "wscat": open_wscat,
    "go": open_go,
    "chromium": open_chromium,
}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with running_server(ping_period_sec=0.1) as started:
        yield started


def url_for(server: LocalServer, name: str) -> str:
    return f"{server.url}/ws?client_id={name}".replace("http", "ws", 1)


@pytest.mark.parametrize("name", CLIENTS)
@on_one_loop
async def test_the_contract_and_a_replay(server: LocalServer, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pubsub")
    server.create_topic(name)
    async with CLIENTS[name](url_for(server, name)) as wire:
        await follow(wire, name)
        await wire.close()
        await eventually(lambda: "closed by the client with 1000" in caplog.text)


# Chromium takes a second to start; the tests of the JavaScript client look at its close codes.
@pytest.mark.parametrize("name", [name for name in CLIENTS if name != "chromium"])
@on_one_loop
async def test_the_close_code_of_the_server(server: LocalServer, name: str) -> None:
    async with CLIENTS[name](url_for(server, name)) as wire:
        await eventually(lambda: server.disconnect(name) == 1)  # some programs are still connecting
        assert await wire.closed() == (0 if name == "wscat" else 4403)
