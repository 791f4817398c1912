"""The bytes that the other side of a connection has received or read, from the kernel, for TCP and Unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator

import pytest

from pubsub.system.tcp_info import Traffic, traffic, uptake
from tests.harness import eventually

PIECE = 1 << 16  # bytes; of a Unix socket the kernel counts read bytes in pieces of up to 37 KiB
MUCH = 1 << 22  # more than all buffers of the kernel hold here

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not tell")


@contextlib.asynccontextmanager
async def connection(family: socket.AddressFamily) -> AsyncIterator[tuple[asyncio.Transport, socket.socket]]:
    """Connect; return the server's side as a transport, and the client's side as a socket that only a test reads."""
    accepted, client = connected_pair(family)
    accepted.setblocking(False)
    with client:
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, accepted)
        yield transport, client
        transport.abort()
        await asyncio.sleep(0)


def connected_pair(family: socket.AddressFamily) -> tuple[socket.socket, socket.socket]:
    if family == socket.AF_UNIX:
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        return listening.accept()[0], client


families = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["TCP", "Unix"])


@families
async def test_what_lies_in_the_kernel_is_not_taken_yet(family: socket.AddressFamily) -> None:
    async with connection(family) as (transport, client):
        assert not uptake(transport).behind
        transport.write(b"x" * MUCH)
        await eventually(lambda: transport.get_write_buffer_size() > 0)
        assert uptake(transport).behind
        for _ in range(MUCH // PIECE):
            await asyncio.to_thread(client.recv, PIECE, socket.MSG_WAITALL)
        await eventually(lambda: not uptake(transport).behind)


async def test_a_few_bytes_that_a_client_on_a_unix_socket_has_not_read_are_not_taken() -> None:
    async with connection(socket.AF_UNIX) as (transport, client):
        transport.write(b"x" * 100)
        assert transport.get_write_buffer_size() == 0
        assert uptake(transport).behind
        client.recv(100)
        assert not uptake(transport).behind


async def test_a_client_on_a_unix_socket_that_reads_slowly_is_seen_to_read() -> None:
    """The socket is writable again only after three quarters are read: the transport alone would see no progress."""
    async with connection(socket.AF_UNIX) as (transport, client):
        transport.write(b"x" * MUCH)
        await eventually(lambda: transport.get_write_buffer_size() > 0)
        before, buffered = uptake(transport), transport.get_write_buffer_size()
        assert len(client.recv(PIECE, socket.MSG_WAITALL)) == PIECE
        assert uptake(transport).taken > before.taken
        assert transport.get_write_buffer_size() == buffered


@families
async def test_what_the_server_sends_is_no_sign_that_the_client_takes_it(family: socket.AddressFamily) -> None:
    async with connection(family) as (transport, _):
        transport.write(b"x" * MUCH)
        await asyncio.sleep(0.1)
        before = uptake(transport)
        for _ in range(3):
            transport.write(b"x" * PIECE)
            await asyncio.sleep(0.01)
            assert uptake(transport).taken <= before.taken


async def test_the_kernel_counts_the_traffic_of_tcp_alone() -> None:
    async with connection(socket.AF_INET) as (transport, client):
        transport.write(b"x" * 100)
        assert len(client.recv(100, socket.MSG_WAITALL)) == 100
        await eventually(lambda: (traffic(transport).bytes_out or 0) >= 100)
    async with connection(socket.AF_UNIX) as (transport, _):
        assert traffic(transport) == Traffic(None, None)


@families
async def test_a_transport_that_is_closed_tells_nothing(family: socket.AddressFamily) -> None:
    async with connection(family) as (transport, _):
        transport.abort()
        await asyncio.sleep(0.01)
        assert not uptake(transport).behind
        assert traffic(transport) == Traffic(None, None)
