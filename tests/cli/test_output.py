"""Lines on an output whose reader is slow, stalls or goes away."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator

import pytest

from pubsub.cli.output import MAX_WAITING, Output
from pubsub.cli.running import OutputClosed, Unusable
from tests.harness import PATIENCE, eventually, on_one_loop


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Open a pipe that holds 4 KiB; a test may close either end itself."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    try:
        yield reader, writer
    finally:
        for end in (reader, writer):
            with contextlib.suppress(OSError):
                os.close(end)


def drain(reader: int, size: int) -> bytes:
    received = b""
    while len(received) < size:
        received += os.read(reader, 1024)
    return received


LINES = [b"%05d" % number + b"x" * 94 + b"\n" for number in range(200)]


@pytest.mark.parametrize("blocking", [True, False])
@on_one_loop
async def test_lines_come_whole_and_in_order_to_a_slow_reader(blocking: bool) -> None:
    with pipe() as (reader, writer):
        os.set_blocking(writer, blocking)
        output = Output(writer)
        for line in LINES[:100]:
            output.put(line)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await output.flush()
        for line in LINES[100:]:
            output.put(line)
        received, _ = await asyncio.gather(asyncio.to_thread(drain, reader, 20_000), output.flush())
    assert received == b"".join(LINES)


@on_one_loop
async def test_lines_of_a_tick_are_written_together() -> None:
    writes: list[int] = []
    with pipe() as (reader, writer):
        output = Output(writer, checkpoint=lambda: lambda: writes.append(1))
        running = asyncio.create_task(output.run())
        for line in LINES[:10]:
            output.put(line)
        await asyncio.to_thread(drain, reader, 1000)
        running.cancel()
    assert writes == [1]


@on_one_loop
async def test_step_of_the_checkpoint_follows_the_lines() -> None:
    seen: list[bytes] = []
    with pipe() as (reader, writer):
        output = Output(writer, checkpoint=lambda: lambda: seen.append(os.read(reader, 100)))
        output.put(b"line\n")
        await output.flush()
    assert seen == [b"line\n"]


@on_one_loop
async def test_full_output_has_room_once_the_thread_has_its_lines() -> None:
    with pipe() as (reader, writer):
        output = Output(writer)
        running = asyncio.create_task(output.run())
        output.put(b"x" * MAX_WAITING)
        assert output.is_full
        async with asyncio.timeout(PATIENCE):
            await output.wait_for_room()
        assert not output.is_full
        running.cancel()
        os.close(reader)


async def test_reader_that_goes_is_noticed_without_a_line() -> None:
    with pipe() as (reader, writer):
        output = Output(writer)
        running = asyncio.create_task(output.run())
        await asyncio.sleep(0)
        os.close(reader)
        with pytest.raises(OutputClosed):
            async with asyncio.timeout(PATIENCE):
                await running


@on_one_loop
async def test_reader_that_has_gone_is_no_error() -> None:
    steps: list[str] = []
    with pipe() as (reader, writer):
        output = Output(writer, checkpoint=lambda: lambda: steps.append("done"))
        os.close(reader)
        output.put(b"line\n")
        with pytest.raises(OutputClosed):
            await output.flush()
    assert steps == []


@on_one_loop
async def test_output_without_space_is_an_error_and_stays_one() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    output = Output(full)
    for _ in range(2):
        output.put(b"line\n")
        with pytest.raises(Unusable, match="the output: No space left on device"):
            await output.flush()
    os.close(full)


def test_thread_that_is_blocked_does_not_delay_the_end_of_the_loop() -> None:
    async def stall(writer: int) -> None:
        output = Output(writer)
        output.put(b"x" * 100_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await output.flush()

    with pipe() as (reader, writer):
        asyncio.run(stall(writer))
        assert drain(reader, 100_000) == b"x" * 100_000


async def test_nothing_is_asked_of_a_file(tmp_path: object) -> None:
    descriptor = os.open(f"{tmp_path}/lines", os.O_CREAT | os.O_RDWR)
    output = Output(descriptor)
    running = asyncio.create_task(output.run())
    output.put(b"line\n")
    await eventually(lambda: os.fstat(descriptor).st_size == 5)
    running.cancel()
    os.close(descriptor)
