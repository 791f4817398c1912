"""Several servers in one process, which a bus in memory joins. Each has its own topics: tests make them everywhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from pubsub.app import create_app
from pubsub.http.servers import join_servers
from tests.cluster.buses import Hub
from tests.harness import Server, make_settings, run_app


class Servers:
    """The servers by name, and the hub between them."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.by_name: dict[str, Server] = {}

    def __getitem__(self, name: str) -> Server:
        return self.by_name[name]

    async def create(self, *topics: str, **options: Any) -> None:
        for server in self.by_name.values():
            await server.create(*topics, **options)

    def cut(self, name: str) -> None:
        """Cut a server off: it hears and tells nothing."""
        self.hub.buses[name].is_cut_off = True

    @contextlib.asynccontextmanager
    async def start(self, name: str, **settings: Any) -> AsyncIterator[Server]:
        send_buffer = settings.pop("send_buffer", None)
        chosen = make_settings(**settings)
        app = create_app(chosen)
        join_servers(app, self.hub.join(name))
        async with run_app(app, chosen, send_buffer=send_buffer) as server:
            self.by_name[name] = server
            yield server


@contextlib.asynccontextmanager
async def run_servers(*names: str, **settings: Any) -> AsyncIterator[Servers]:
    hub = Hub(defer=asyncio.get_running_loop().call_soon)
    async with contextlib.AsyncExitStack() as stack:
        servers = Servers(hub)
        for name in names:
            await stack.enter_async_context(servers.start(name, **settings))
        yield servers
