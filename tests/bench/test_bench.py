"""``pubsub bench``: its calculations as plain functions, and the program with the real server and with faulty ones."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import pty
import re
import signal
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from pubsub.bench.account import MAX_GAPS, Account, Latencies
from pubsub.bench.clients import EMPTY_PAYLOAD, Tally
from pubsub.bench.event_stream import read_block
from pubsub.bench.filler import varied
from pubsub.bench.filters import Difference, make_filter
from pubsub.bench.pace import MAX_EVEN_RATE, SECOND, TICK, Schedule
from pubsub.bench.pieces import (
    CACHE_BYTES,
    Batch,
    Piece,
    PieceCache,
    read_framed_event,
    read_piece,
    read_streamed_event,
)
from pubsub.bench.plan import MAX_RATE, MIN_SIZE, read_plan
from pubsub.bench.report import json_line, table
from pubsub.bench.run import Result
from pubsub.bench.subscribers import CompressedSubscriber, StreamSubscriber, Subscriber, WebSocketSubscriber
from pubsub.bench.websocket import WebSocket
from pubsub.bench.wire import MAX_HEAD_BYTES
from pubsub.client import ServerFault, Unreachable
from pubsub.client.credentials import Credentials
from pubsub.client.frames import MAX_FRAME_BYTES
from pubsub.protocol.deflate import LARGEST_WINDOW, TAIL, Deflater, deflated_frame
from pubsub.protocol.frames import text_frame
from tests.harness import (
    PATIENCE,
    REPOSITORY,
    ForkedServer,
    Json,
    Server,
    ServerProcess,
    free_port,
    on_one_loop,
    run_server,
)
from tests.test_docs import section
from tests.test_docs import table as documented

# Accounts


@given(st.lists(st.integers(1, 40), max_size=MAX_GAPS), st.integers(0, 45))
def test_account_is_that_of_a_model(seqs: list[int], last: int) -> None:
    account = Account()
    for seq in seqs:
        account.receive(seq)
    assert account.delivered == len(set(seqs))
    assert account.duplicated == len(seqs) - len(set(seqs))
    assert account.lost(last) == len(set(range(1, last + 1)) - set(seqs))
    assert account.missed == len(set(range(1, max(seqs, default=0))) - set(seqs))
    first_times = list(dict.fromkeys(seqs))
    assert account.disordered == sum(any(seq < before for before in first_times[:at]) for at, seq in
                                     enumerate(first_times))  # fmt: skip


def test_account_takes_many_at_once() -> None:
    account = Account()
    account.take(3)
    account.receive(4)
    assert (account.expected, account.delivered, account.lost(4), account.lost(6)) == (5, 4, 0, 2)


def test_account_keeps_so_many_gaps_and_no_more() -> None:
    account = Account()
    for seq in range(2, 2 * MAX_GAPS + 4, 2):
        account.receive(seq)
    assert account.lost(2 * MAX_GAPS + 2) == MAX_GAPS + 1
    account.receive(1)
    assert account.duplicated == 1, "the oldest gap is no longer kept"
    account.receive(3)
    assert account.disordered == 1


@given(st.lists(st.integers(0, 2**40), min_size=1), st.sampled_from([0.5, 0.99, 0.999, 1]))
def test_percentile_is_at_most_a_bucket_above(latencies: list[int], share: float) -> None:
    counted = Latencies()
    for each in latencies:
        counted.add(each, 1)
    exact = sorted(latencies)[max(0, -int(-len(latencies) * share // 1) - 1)]
    told = counted.percentile(share)
    assert told is not None
    assert exact <= told <= exact * (1 + 1 / 64)


def test_percentile_without_deliveries() -> None:
    assert Latencies().percentile(0.5) is None


# When messages are due


@given(st.integers(1, MAX_RATE), st.integers(0, 10**9))
def test_a_message_is_due_when_it_is_due(rate: int, number: int) -> None:
    schedule = Schedule(rate)
    at = schedule.due_at(number)
    assert schedule.due_by(at) > number
    assert at == 0 or schedule.due_by(at - 1) <= number
    assert 0 <= at - number * SECOND / rate <= (1 if rate <= MAX_EVEN_RATE else TICK) * (1 + 1e-9) + at * 1e-15


# What the server sends


def event_text(seq: int, *, number: int | None = None, sent: int = 5) -> bytes:
    payload = {"n": f"{number or seq:012x}", "sent": f"{sent:016x}", "pad": ""}
    return json.dumps({"type": "event", "topic": "t", "message": {"id": "i", "payload": payload},
                       "seq": seq, "ts": "now"}).encode()  # fmt: skip


def event(seq: int, *, number: int | None = None, sent: int = 5) -> bytes:
    return text_frame(event_text(seq, number=number, sent=sent))


def deflated(seq: int) -> bytes:
    return deflated_frame(Deflater(LARGEST_WINDOW).deflate(event_text(seq)).removesuffix(TAIL))


def streamed(seq: int, *, number: int | None = None, sent: int = 5) -> bytes:
    return b"id: e:%d\ndata: %b\n\n" % (seq, event_text(seq, number=number, sent=sent))


DROPPED = b'{"type":"info","topic":"t","msg":"dropped","count":2,"from_seq":4,"to_seq":5,"ts":"now"}'
PING = b"\x89\x00"
FRAMES = [event(1), event(2), PING, event(3, sent=6), text_frame(DROPPED), event(6), event(8), event(7), event(8),
          event(9)]  # fmt: skip
SUBSCRIBED = b'id: e:0\nevent: info\ndata: {"type":"info","topic":"t","msg":"subscribed","epoch":"e","ts":"now"}\n\n'
BLOCKS = [b"retry: 1830\n" + SUBSCRIBED, streamed(1), streamed(2), b": ping\n\n", streamed(3, sent=6),
          b"event: info\ndata: " + DROPPED + b"\n\n", streamed(6), streamed(8), streamed(7), streamed(8),
          streamed(9)]  # fmt: skip


def subscriber(
    faults: list[str], tally: Tally | None = None, kind: type[Subscriber] = WebSocketSubscriber
) -> Subscriber:
    class Silent(asyncio.Transport):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            pass

        def abort(self) -> None:
            pass

    made = kind(tally or Tally(faults.append))
    made.connection_made(Silent())
    return made


@pytest.mark.parametrize(("kind", "sent"), [(WebSocketSubscriber, FRAMES), (StreamSubscriber, BLOCKS)])
@given(st.lists(st.lists(st.integers(0, 1000)), min_size=1, max_size=3))
def test_pieces_of_whatever_size_make_the_same_account(
    kind: type[Subscriber], sent: list[bytes], cuts_of_each: list[list[int]]
) -> None:
    faults: list[str] = []
    tally, stream = Tally(faults.append), b"".join(sent)
    for cuts in cuts_of_each:
        each = subscriber(faults, tally, kind)
        places = [0, *sorted(cuts), len(stream)]
        for start, end in itertools.pairwise(places):
            each.data_received(stream[start:end])
        account = each.account
        assert (account.delivered, account.duplicated, account.disordered, account.lost(10)) == (7, 1, 1, 3)
    assert not faults
    assert tally.dropped == 2 * len(cuts_of_each)


@pytest.mark.parametrize(("kind", "make"), [(WebSocketSubscriber, event), (StreamSubscriber, streamed)])
def test_what_one_subscriber_had_is_compared_for_the_next(kind: type[Subscriber], make: Callable[..., bytes]) -> None:
    faults: list[str] = []
    tally, stream = Tally(faults.append), make(1) + make(2) + make(3, sent=6)
    subscriber(faults, tally, kind).data_received(stream)
    assert tally.pieces.get(1) == Piece(stream, 3, [Batch(5, 2), Batch(6, 1)])
    altered = stream.replace(b'"ts": "now"', b'"ts": "NOW"')
    other = subscriber(faults, tally, kind)
    other.data_received(altered)
    assert other.account.delivered == 3
    assert not faults


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (event(1, number=2), "event #1 is not what this run published with that number"),
        (
            text_frame(b'{"type":"event","topic":"t","message":{"id":"i","payload":7},"seq":1,"ts":"x"}'),
            "event #1 is not",
        ),
        (
            text_frame(b'{"type":"error","error":{"code":"SLOW_CONSUMER","message":"too slow"},"ts":"x"}'),
            "SLOW_CONSUMER",
        ),
        (text_frame(b'{"type":"info","msg":"topic_deleted","topic":"t"}'), "'topic_deleted'"),
        (text_frame(b"\xff"), "no request asked for"),
        (b"\x88\x02\x03\xf5", "(1013)"),
        (b"\x82\x00", "begins with 8200"),
        (b"\x81\x80", "begins with 8180"),
        (b"\x81\x7f" + (MAX_FRAME_BYTES + 1).to_bytes(8, "big"), "a frame of 67,108,865 bytes"),
    ],
)
def test_what_the_server_must_not_send_is_a_fault(sent: bytes, fault: str) -> None:
    faults: list[str] = []
    each = subscriber(faults)
    each.data_received(sent + event(1))
    each.data_received(event(2))
    assert len(faults) == 1
    assert fault in faults[0]
    assert each.account.delivered == 0


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (streamed(1, number=2), "event #1 is not what this run published with that number"),
        (b'data: {"type":"event","topic":7}\n\n', "no request asked for"),
        (b'event: info\ndata: {"type":"info","msg":"topic_deleted","topic":"t","ts":"x"}\n\n', "'topic_deleted'"),
        (b'event: info\ndata: {"type":"error","error":{"code":"SLOW_CONSUMER","message":"slow"},"ts":"x"}\n\n', "slow"),
        (b"data: \xff\n\n", "no request asked for"),
        (b"data: " + b"x" * MAX_FRAME_BYTES, "a block of more than 67,108,864 bytes"),
    ],
)
def test_what_a_stream_must_not_have_is_a_fault(sent: bytes, fault: str) -> None:
    faults: list[str] = []
    each = subscriber(faults, kind=StreamSubscriber)
    each.data_received(sent)
    each.data_received(streamed(2))
    assert len(faults) == 1
    assert fault in faults[0]
    assert each.account.delivered == 0


def test_block_of_a_stream() -> None:
    received = b"id: 1\ndata: a\n\nevent: info\ndata: b\n\n: ping\n\nda"
    first = read_block(received, 0)
    assert first == (b"a", True, 15)
    second = read_block(received, first.end)
    assert second == (b"b", False, 36)
    assert read_block(received, second.end) == (b"", True, 44)
    assert read_block(received, 44) is None


def test_compressed_events_are_inflated_once() -> None:
    faults: list[str] = []
    tally, stream = Tally(faults.append), deflated(1) + deflated(2) + event(3) + PING + deflated(5) + deflated(4)
    for _ in range(2):
        each = subscriber(faults, tally, CompressedSubscriber)
        each.data_received(stream)
        assert (each.account.delivered, each.account.disordered) == (5, 1)
    assert tally.pieces.get(1) == Piece(deflated(1) + deflated(2) + event(3), 3, [Batch(5, 3)], compressed=2)
    assert (tally.compressed, tally.received, faults) == (8, 2 * len(stream), [])


@pytest.mark.parametrize(
    ("kind", "sent", "fault"),
    [
        (WebSocketSubscriber, deflated(1), "begins with c1"),
        (CompressedSubscriber, deflated_frame(b"\xff\xff"), "a damaged compressed message"),
        (CompressedSubscriber, b"\xc9\x00", "begins with c900"),
    ],
)
def test_compression_that_is_a_fault(kind: type[Subscriber], sent: bytes, fault: str) -> None:
    faults: list[str] = []
    subscriber(faults, kind=kind).data_received(sent)
    assert len(faults) == 1
    assert fault in faults[0]


def test_varied_payloads_compress_as_real_ones_do() -> None:
    assert (len(varied(1024)), varied(1024)) == (1024, varied(1024))
    assert 0.2 < len(zlib.compress(varied(1024).encode(), 3)) / 1024 < 0.6
    assert json.loads(f'"{varied(5000)}"') == varied(5000)


def test_piece_ends_where_the_order_does() -> None:
    stream = event(4) + event(5) + event(7)
    assert read_piece(stream, 0, 4, read_framed_event) == Piece(event(4) + event(5), 2, [Batch(5, 2)])
    assert read_piece(stream, 0, 3, read_framed_event) is None
    with pytest.raises(ServerFault, match="begins with"):
        read_piece(event(4) + b"\x00\x00", 0, 4, read_framed_event)
    blocks = streamed(4) + streamed(5) + b": ping\n\n" + streamed(6)
    assert read_piece(blocks, 0, 4, read_streamed_event) == Piece(streamed(4) + streamed(5), 2, [Batch(5, 2)])


def test_cache_forgets_the_oldest() -> None:
    cache = PieceCache()
    for number in range(1, 5):
        cache.add(number, Piece(b"x" * (CACHE_BYTES // 3), 1, []))
    assert [number for number in range(1, 5) if cache.get(number)] == [2, 3, 4]
    cache.add(3, Piece(b"short", 1, []))
    cache.add(5, Piece(b"x" * (CACHE_BYTES // 4), 1, []))
    assert [number for number in range(1, 6) if cache.get(number)] == [2, 3, 4, 5], "a shorter piece leaves room"
    cache.add(6, Piece(b"x" * 2 * CACHE_BYTES, 1, []))
    assert [number for number in range(1, 7) if cache.get(number)] == [6], "the newest is kept whatever its size"


def test_least_payload_has_room() -> None:
    assert len(EMPTY_PAYLOAD) <= MIN_SIZE


# Flags


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--subscribers 10001", "argument --subscribers: got '10001', expected a whole number from 0 to 10,000"),
        ("--subscribers -1", "got '-1'"),
        ("--rate 1e3", "argument --rate: got '1e3'"),
        ("--window 0", "argument --window: got '0', expected a whole number from 1 to 10,000"),
        ("--size 63", "argument --size: got '63', expected a whole number from 64 to 1,000,000"),
        ("--window 100 --size 1000000", "got 100,000,000 bytes in flight"),
        ("--duration nan", "argument --duration: got 'nan', expected seconds above 0 and up to 600"),
        ("--duration 601", "got '601'"),
        ("--duration soon", "got 'soon'"),
        ("--transport tcp", "argument --transport: got 'tcp', expected websocket or sse"),
        ("--compress maybe", "argument --compress: got 'maybe', expected off or on"),
        ("--compress --transport sse", "--compress: expected --transport websocket"),
        ("--filters -1", "argument --filters: got '-1', expected a whole number from 0 to 10,000"),
        ("--filters 3 --subscribers 2", "--filters: got 3, expected at most the 2 of --subscribers"),
        ("--filters-by size", "argument --filters-by: got 'size', expected params or text"),
        ("--patterns many", "argument --patterns: got 'many', expected a whole number from 0 to 100,000"),
        (f"--patterns 1 --topic {'a' * 201}", "--topic: expected at most 200 characters with --patterns"),
        ("--topic a..b", "argument --topic: the name of a topic: expected 1 to 255 of ASCII letters"),
        ("--url ftp://x", "the URL must look like http"),
        ("--speed 3", "unrecognized arguments"),
        ("more", "unrecognized arguments"),
    ],
)
def test_flags_that_make_no_sense(flags: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_plan(flags.split())
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_defaults() -> None:
    plan = read_plan([])
    assert str(plan.base.origin()) == "http://127.0.0.1:8080"
    assert plan.topic != read_plan([]).topic, "each run has its own topic"
    assert read_plan(["--rate", "5", "--size", "1000000"]).most_in_flight == 67


def test_help_says_what_is_bounded_and_what_to_load(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_plan(["--help"])
    assert ended.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Load only servers that are your own" in told
    assert "At most 10,000 subscribers, 1,000,000 messages/s, 10,000 in flight, 1,000,000 bytes, 600 seconds." in told


def test_flags_are_those_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    rows = documented(section("docs/operation.md", "Measuring"), "Flag", "Default", "Range", "Meaning")
    with pytest.raises(SystemExit):
        read_plan(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert [row[0].strip("`") for row in rows] == list(dict.fromkeys(re.findall(r"(?<=\[)--[a-z-]+", told)))
    for flag, default, allowed, _ in rows:
        assert re.search(rf"{flag.strip('`')} \[?[A-Z]+\]? [^()]*\(default: (one that is )?{default}\)", told), flag
        with pytest.raises(SystemExit):
            read_plan([flag.strip("`"), "? "])
        assert allowed in capsys.readouterr().err


# Against the real server

ON_UVLOOP = ["-m", "pubsub", "bench"]
ON_ASYNCIO = ["-c", "import sys; from pubsub.bench import run_bench; sys.exit(run_bench(sys.argv[1:], None))"]


def bench(url: str, flags: str, *, program: list[str] = ON_UVLOOP) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *program, "--url", url, *flags.split()],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=30,
    )  # fmt: skip


async def start(url: str, flags: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", *ON_UVLOOP, "--url", url, *flags.split(),
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def result_of(output: str) -> Json:
    line, rest = output.split("\n", 1)
    assert not rest, "one line"
    result: Json = json.loads(line)
    return result


def assert_it_adds_up(result: Json) -> None:
    assert result["acknowledged"] == result["published"] > 0
    assert result["deliveries"] == result["published"] * result["subscribers"]
    assert [result[name] for name in ("lost", "duplicated", "disordered", "dropped", "faults")] == [0, 0, 0, 0, []]
    if result["subscribers"]:
        latency = result["latency_ms"]
        assert 0 < latency["p50"] <= latency["p99"] <= latency["p99.9"] <= latency["max"]
    assert result["client_cpu"] > 0
    assert 0 < result["deliveries_per_sec"] >= result["publishes_per_sec"] or not result["subscribers"]


async def topics_of(server: Server | ServerProcess) -> Json:
    """Return the topics, each with its number of published messages."""
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/stats") as response:
        topics: Json = (await response.json())["topics"]
        return topics


async def under_way(server: Server | ServerProcess) -> None:
    """Wait until a message has been published."""
    async with asyncio.timeout(PATIENCE):
        while not any(topic["messages"] for topic in (await topics_of(server)).values()):  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # another process gives no event to wait for


@pytest.mark.parametrize(
    ("flags", "program"),
    [
        ("--subscribers 20", ON_UVLOOP),
        ("--subscribers 20", ON_ASYNCIO),
        ("--subscribers 3 --size 200000 --window 4", ON_UVLOOP),
        ("--subscribers 2 --size 64 --window 2000", ON_UVLOOP),
        ("--subscribers 0", ON_UVLOOP),
        ("--subscribers 20 --transport sse", ON_UVLOOP),
        ("--subscribers 3 --size 200000 --window 4 --transport sse", ON_ASYNCIO),
        ("--subscribers 7 --filters 3", ON_UVLOOP),
        ("--subscribers 7 --filters 3 --filters-by text --transport sse", ON_UVLOOP),
        ("--subscribers 2 --patterns 2345", ON_UVLOOP),
    ],
)
@on_one_loop
async def test_run(flags: str, program: list[str]) -> None:
    async with run_server() as server:
        done = await asyncio.to_thread(bench, server.url, f"{flags} --duration 0.2", program=program)
        assert done.returncode == 0, done.stderr
        result = result_of(done.stdout)
        assert_it_adds_up(result)
        assert not result["interrupted"]
        assert not await topics_of(server)


@on_one_loop
async def test_compressed_run() -> None:
    async with run_server(compression="on") as server:
        done = await asyncio.to_thread(bench, server.url, "--subscribers 5 --size 1024 --compress --duration 0.2")
        assert done.returncode == 0, done.stderr
        result = result_of(done.stdout)
        assert_it_adds_up(result)
        assert result["compressed"] == result["deliveries"]
        assert result["received_bytes"] < 0.6 * 1024 * result["deliveries"]


@on_one_loop
async def test_server_that_does_not_compress() -> None:
    async with run_server() as server:
        done = await asyncio.to_thread(bench, server.url, "--subscribers 1 --compress --duration 0.1")
        assert (done.returncode, done.stdout) == (1, "")
        assert "the server does not agree to compression: is its COMPRESSION on?" in done.stderr
        assert not await topics_of(server)


@pytest.mark.parametrize("transport", ["websocket", "sse"])
@on_one_loop
async def test_filters_that_the_server_does_not_take(transport: str) -> None:
    async with run_server(max_filters_per_topic=2) as server:
        flags = f"--subscribers 3 --filters 3 --duration 0.1 --transport {transport}"
        done = await asyncio.to_thread(bench, server.url, flags)
        assert (done.returncode, done.stdout) == (1, "")
        assert "has its 2 filters (MAX_FILTERS_PER_TOPIC)" in done.stderr
        assert not await topics_of(server)


@on_one_loop
async def test_patterns_that_the_server_does_not_take() -> None:
    async with run_server(max_subscriptions_per_connection=5) as server:
        done = await asyncio.to_thread(bench, server.url, "--subscribers 1 --patterns 6 --duration 0.1")
        assert (done.returncode, done.stdout) == (1, "")
        assert "a client with idle patterns: the server answered LIMIT_EXCEEDED" in done.stderr


@pytest.mark.parametrize(("rate", "due"), [(50, 20), (20_000, 7_981)])
@on_one_loop
async def test_run_at_a_rate(rate: int, due: int) -> None:
    async with run_server() as server:
        done = await asyncio.to_thread(bench, server.url, f"--subscribers 5 --rate {rate} --duration 0.4")
        result = result_of(done.stdout)
        assert done.returncode == 0, done.stderr
        assert_it_adds_up(result)
        assert result["published"] + result["unsent"] == due


@on_one_loop
async def test_table_and_progress_are_for_people() -> None:
    async with run_server() as server:
        done = await asyncio.to_thread(bench, server.url, "--subscribers 2 --duration 0.1 --topic mine")
        result = result_of(done.stdout)
        assert result["topic"] == "mine"
        first, *rest = done.stderr.splitlines()
        assert first == "connected 0 of 2 subscribers"
        assert f"{result['acknowledged']:,} acknowledged" in done.stderr
        assert "lost 0" in done.stderr
        assert len(rest) < 10
        assert "\r" not in done.stderr


@on_one_loop
async def test_progress_stays_on_one_line_of_a_terminal() -> None:
    async with run_server() as server:
        leader, follower = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            sys.executable, *ON_UVLOOP, "--url", server.url, "--duration", "0.1", "--subscribers", "1",
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=follower,
        )  # fmt: skip
        os.close(follower)
        output, _ = await process.communicate()
        shown = os.read(leader, 1 << 16).decode()
        os.close(leader)
        assert_it_adds_up(result_of(output.decode()))
        assert shown.startswith("\rconnected 0 of 1 subscribers\x1b[K\r\x1b[K1 subscribers, 20 in flight")


@on_one_loop
async def test_output_that_nobody_reads_is_no_failure() -> None:
    async with run_server() as server:
        command = f"{sys.executable} -m pubsub bench --url {server.url} --subscribers 1 --duration 0.1"
        done = await asyncio.to_thread(
            subprocess.run, ["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.stdout == "0\n", done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception" not in done.stderr


@on_one_loop
async def test_foreign_topic_is_left_alone() -> None:
    async with run_server() as server:
        await server.create("orders")
        done = await asyncio.to_thread(bench, server.url, "--topic orders --duration 0.1")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "pubsub bench: topic already exists\n"
        assert "orders" in await topics_of(server)


def test_server_that_is_not_there() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = bench(url, "--duration 0.1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"pubsub bench: cannot reach {url}: Connection refused\n"


def test_wrong_flags_end_the_program() -> None:
    done = bench("nowhere", "--duration 0.1")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@on_one_loop
async def test_signal_ends_the_run_and_deletes_the_topic(number: signal.Signals, status: int) -> None:
    async with run_server() as server:
        process = await start(server.url, "--duration 600 --subscribers 5")
        await under_way(server)
        process.send_signal(number)
        output, _ = await process.communicate()
        assert process.returncode == status
        result = result_of(output.decode())
        assert_it_adds_up(result)
        assert result["interrupted"]
        assert not await topics_of(server)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (signal.SIGTERM, ["the server sent the info 'draining'"]),
        (signal.SIGKILL, ["the connection was lost", "the topic mine could not be deleted: cannot reach"]),
    ],
)
@on_one_loop
async def test_server_that_ends_meanwhile(number: signal.Signals, told: list[str]) -> None:
    with ForkedServer() as server:
        process = await start(server.url, "--duration 600 --subscribers 1 --topic mine")
        await under_way(server)
        server.stop(number)
        output, _ = await process.communicate()
        assert process.returncode == 1
        faults = "; ".join(result_of(output.decode())["faults"])
        assert [each for each in told if each in faults] == told, faults


# The report

FLAWLESS = Result(seconds=2.0, published=10, acknowledged=10, unsent=0, deliveries=20, lost=0, duplicated=0,
                  disordered=0, dropped=0, received_bytes=7_001, compressed=20,
                  latencies={"p50": 1_234_567, "max": None}, client_cpu=0.5,
                  faults=[])  # fmt: skip


def test_table_says_what_kind_of_clients_there_were() -> None:
    plan = read_plan(
        ["--subscribers", "10", "--transport", "sse", "--filters", "4", "--filters-by", "text", "--patterns", "2000"]
    )
    shown = table(plan, FLAWLESS, interrupted=False)
    assert shown.startswith("10 subscribers over SSE with 4 filters that differ in text and 2,000 idle patterns, 20 in")
    assert table(read_plan([]), FLAWLESS, interrupted=False).startswith("100 subscribers, 20 in flight")
    line = json.loads(json_line(plan, FLAWLESS, interrupted=False))
    assert [line[name] for name in ("transport", "filters", "filters_by", "patterns")] == ["sse", 4, "text", 2000]


def test_table_tells_what_came() -> None:
    plan = read_plan(["--compress"])
    shown = table(plan, FLAWLESS, interrupted=False)
    assert shown.startswith("100 subscribers with compression, 20 in flight")
    assert re.search(r"  received +7,001 bytes +350 a delivery, 20 compressed\n", shown)
    line = json.loads(json_line(plan, FLAWLESS, interrupted=False))
    assert [line[name] for name in ("compress", "received_bytes", "compressed")] == [True, 7001, 20]
    assert read_plan(["--compress", "on"]).compress
    assert not read_plan(["--compress", "off"]).compress


def test_subscribers_are_spread_over_the_filters() -> None:
    plan = read_plan(["--subscribers", "10", "--filters", "4"])
    filters = [plan.filter_of(number) for number in range(10)]
    assert len(set(filters)) == 4
    assert len({each.text for each in filters if each}) == 1
    assert make_filter(7, Difference.TEXT).text == "payload.n != 'never-7'"
    assert read_plan([]).filter_of(0) is None


def test_table_names_the_bottleneck() -> None:
    plan = read_plan([])
    assert "bottleneck" not in table(plan, FLAWLESS, interrupted=False)
    assert "The client was the bottleneck" in table(plan, replace(FLAWLESS, client_cpu=0.95), interrupted=False)
    assert json.loads(json_line(plan, replace(FLAWLESS, client_cpu=0.95), interrupted=False))["client_was_bottleneck"]
    assert "7 messages were due and not sent" in table(plan, replace(FLAWLESS, unsent=7), interrupted=False)
    assert "(interrupted)" in table(plan, FLAWLESS, interrupted=True)


def test_json_line_spells_milliseconds() -> None:
    result = json.loads(json_line(read_plan(["--url", "http://me:secret@host"]), FLAWLESS, interrupted=False))
    assert result["latency_ms"] == {"p50": 1.235, "max": None}
    assert (result["publishes_per_sec"], result["deliveries_per_sec"]) == (5, 10)
    assert result["url"] == "http://host"


def test_flaws() -> None:
    assert FLAWLESS.is_flawless
    assert not replace(FLAWLESS, lost=1).is_flawless
    assert not replace(FLAWLESS, duplicated=1).is_flawless
    assert not replace(FLAWLESS, disordered=1).is_flawless
    assert not replace(FLAWLESS, faults=["x"]).is_flawless


# Faulty servers


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "the connection was lost"),
        (b"SSH-2.0-dropbear\r\n\r\n", "is not HTTP"),
        (b"x" * (MAX_HEAD_BYTES + 1), "is not HTTP"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "refused the connection with status 401"),
        (b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n", "is not a WebSocket handshake"),
    ],
)
async def test_handshake_that_fails(answer: bytes, told: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        wire = WebSocket()
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match=told):
            await wire.open(URL(f"http://127.0.0.1:{port}/ws"), Credentials())
        assert wire.closed


@dataclass
class FailingServer:
    """A server that answers as the real one does, but delivers the events whose numbers ``tamper`` returns."""

    tamper: Callable[[int], list[int]] = lambda seq: [seq]
    answer: Json = field(default_factory=dict)  # in place of the ack of the third publish
    refusal: int = 0  # HTTP status of the handshake
    answers_deletes: bool = True
    answers_subscribes: bool = True
    url: str = ""

    def __post_init__(self) -> None:
        self.deleting = asyncio.Event()
        self.ending = asyncio.Event()
        self.topics: list[str] = []
        self.deleted: list[str] = []
        self.subscribing = asyncio.Event()
        self._subscribers: list[web.WebSocketResponse] = []
        self._messages: dict[int, Json] = {}

    async def create(self, request: web.Request) -> web.Response:
        self.topics.append((await request.json())["name"])
        return web.json_response({"status": "created"}, status=201)

    async def delete(self, request: web.Request) -> web.Response:
        self.deleted.append(request.match_info["name"])
        self.deleting.set()
        if not self.answers_deletes:
            await self.ending.wait()
        return web.json_response({"status": "deleted"})

    async def converse(self, request: web.Request) -> web.StreamResponse:
        if self.refusal:
            return web.json_response({"error": "no"}, status=self.refusal)
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            await self.answer_to(json.loads(message.data), websocket)
        return websocket

    async def answer_to(self, request: Json, websocket: web.WebSocketResponse) -> None:
        if request["type"] == "subscribe":
            self._subscribers.append(websocket)
            self.subscribing.set()
            if self.answers_subscribes:
                await websocket.send_json({"type": "ack", "topic": request["topic"], "seq": 0})
            return
        seq = len(self._messages) + 1
        self._messages[seq] = request
        for each in self.tamper(seq):
            for subscriber in self._subscribers:
                await subscriber.send_json({"type": "event", "topic": request["topic"], "seq": each,
                                            "message": self._messages[each]["message"], "ts": "x"})  # fmt: skip
        await websocket.send_json(self.answer if self.answer and seq == 3 else {"type": "ack", "seq": seq})


@contextlib.asynccontextmanager
async def run_failing(server: FailingServer) -> AsyncIterator[FailingServer]:
    app = web.Application()
    app.add_routes([web.post("/topics", server.create), web.delete("/topics/{name}", server.delete),
                    web.get("/ws", server.converse)])  # fmt: skip
    runner = web.AppRunner(app, shutdown_timeout=0.1)  # 0 would mean for ever
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        server.ending.set()
        await runner.cleanup()


@pytest.mark.parametrize(
    ("tamper", "counts"),
    [
        (lambda seq: [] if seq == 3 else [seq], {"lost": 2, "duplicated": 0, "disordered": 0}),
        (lambda seq: [seq, seq] if seq == 3 else [seq], {"lost": 0, "duplicated": 2, "disordered": 0}),
        (lambda seq: {3: [], 4: [4, 3]}.get(seq, [seq]), {"lost": 0, "duplicated": 0, "disordered": 2}),
    ],
    ids=["lost", "duplicated", "disordered"],
)
@on_one_loop
async def test_what_goes_wrong_is_counted(tamper: Callable[[int], list[int]], counts: Json) -> None:
    async with run_failing(FailingServer(tamper)) as server:
        done = await asyncio.to_thread(bench, server.url, "--subscribers 2 --rate 100 --duration 0.2")
        assert done.returncode == 1, done.stderr
        result = result_of(done.stdout)
        assert {name: result[name] for name in counts} == counts
        assert result["deliveries"] == 2 * result["acknowledged"] - result["lost"]
        assert not result["faults"]
        assert server.deleted == server.topics != []


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({"type": "error", "error": {"code": "RATE_LIMITED", "message": "slower"}, "ts": "x"}, "RATE_LIMITED: slower"),
        ({"type": "ack", "seq": 4}, "publish #3 was acknowledged as #4"),
    ],
)
@on_one_loop
async def test_fault_ends_the_run(answer: Json, fault: str) -> None:
    async with run_failing(FailingServer(answer=answer)) as server:
        done = await asyncio.to_thread(bench, server.url, "--subscribers 1 --duration 600")
        assert done.returncode == 1, done.stderr
        result = result_of(done.stdout)
        assert result["acknowledged"] == 2
        assert any(fault in each for each in result["faults"])
        assert fault in done.stderr
        assert server.deleted == server.topics != []


@on_one_loop
async def test_refused_handshake() -> None:
    async with run_failing(FailingServer(refusal=503)) as server:
        done = await asyncio.to_thread(bench, server.url, "--duration 600")
        assert (done.returncode, done.stdout) == (1, "")
        assert "pubsub bench: the server refused the connection with status 503" in done.stderr
        assert server.deleted == server.topics != []


@on_one_loop
async def test_ctrl_c_while_connecting() -> None:
    async with run_failing(FailingServer(answers_subscribes=False)) as server:
        process = await start(server.url, "--duration 600 --subscribers 1")
        await server.subscribing.wait()
        process.send_signal(signal.SIGINT)
        output, _ = await process.communicate()
        assert process.returncode == 130
        assert result_of(output.decode())["published"] == 0
        assert server.deleted == server.topics != []


@on_one_loop
async def test_second_ctrl_c_waits_for_nobody() -> None:
    async with run_failing(FailingServer(answers_deletes=False)) as server:
        process = await start(server.url, "--duration 600 --subscribers 1")
        await server.subscribing.wait()
        process.send_signal(signal.SIGINT)
        await server.deleting.wait()
        process.send_signal(signal.SIGINT)
        output, errors = await process.communicate()
        assert (process.returncode, output) == (130, b"")
        assert b"Traceback" not in errors


@on_one_loop
async def test_ctrl_c_ends_the_wait_for_what_is_under_way() -> None:
    async with run_failing(FailingServer(lambda seq: [seq] if seq < 10 else [])) as server:
        process = await start(server.url, "--duration 0.5 --rate 100 --subscribers 1")
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            await process.stderr.readuntil(b"waiting for messages in flight\n")
        process.send_signal(signal.SIGINT)
        output, _ = await process.communicate()
        assert process.returncode == 130
        assert result_of(output.decode())["lost"] == 41
        assert server.deleted == server.topics != []
