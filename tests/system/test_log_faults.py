"""Faults of the log (a pipe without a reader, a full disk, a closed stream) cost the server only log lines."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.harness import REPOSITORY, RawClient, ServerProcess, clean_environment, eventually, free_port, on_one_loop


@contextmanager
def server_with_log(
    log: IO[bytes] | int | None, run: str = 'exec "$@"'
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start a server by a shell with its log at ``log``; yield it and its port, which the log need not name."""
    port = free_port()
    command = ["sh", "-c", run, "sh", sys.executable, "-m", "pubsub", "serve", "--host", "127.0.0.1", "--port"]
    with subprocess.Popen([*command, str(port)], cwd=REPOSITORY, env=clean_environment(), stderr=log) as server:
        try:
            yield server, port
        finally:
            RawClient.close_all()
            server.kill()


async def connected(port: int) -> RawClient:
    async with asyncio.timeout(30):
        while True:
            try:
                return await RawClient.connect(port, path="/ws")
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)


async def visit(port: int, *, times: int) -> None:
    """Make the server log two long lines, this number of times."""
    for _ in range(times):
        (await RawClient.connect(port, path=f"/ws?client_id={'x' * 200}")).close()


async def is_served(client: RawClient) -> None:
    await client.send_text({"type": "ping"})
    assert (await client.receive())["type"] == "pong"


async def ends_well(server: subprocess.Popen[bytes], client: RawClient) -> None:
    server.terminate()
    assert await client.close_code() == 1001
    client.close()
    assert await asyncio.to_thread(server.wait, 30) == 0


FULL = os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("kind", ["full disk", "nobody reads", "closed", "reader gone"])
@on_one_loop
async def test_a_server_whose_log_fails_serves_and_ends_as_ever(kind: str) -> None:
    reading, writing = os.pipe()
    log = FULL if kind == "full disk" else writing
    if kind == "reader gone":
        os.close(reading)
    with server_with_log(log, 'exec "$@" 2>&-' if kind == "closed" else 'exec "$@"') as (server, port):
        client = await connected(port)
        await visit(port, times=400)  # a pipe holds 64 KiB
        await is_served(client)
        await ends_well(server, client)


@on_one_loop
async def test_lines_that_were_lost_are_counted_once_there_is_room() -> None:
    with ServerProcess() as server:
        client = await RawClient.connect(server.port)
        await visit(server.port, times=400)
        await is_served(client)
        reading = asyncio.create_task(asyncio.to_thread(server.read_log_until, r"Log lines lost: (\d+)"))
        while not reading.done():
            await visit(server.port, times=1)
        assert int((await reading)[1]) > 100
        assert server.stop() == 0
        assert "Shutdown complete" in server.log


@on_one_loop
async def test_a_full_disk_that_has_room_again_is_written_on(tmp_path: Path) -> None:
    """A limit on the file size simulates the full disk: the file is truncated, as by log rotation."""
    path = tmp_path / "log"
    path.touch()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    with server_with_log(descriptor, 'ulimit -f 20; exec "$@"') as (server, port):
        client = await connected(port)
        await visit(port, times=100)
        await is_served(client)
        assert path.stat().st_size <= 20 * 1024
        os.truncate(path, 0)
        await visit(port, times=1)
        await eventually(lambda: "Log lines lost" in path.read_text())
        await ends_well(server, client)
    os.close(descriptor)
    assert path.read_text().splitlines()[-1].endswith("Shutdown complete")
