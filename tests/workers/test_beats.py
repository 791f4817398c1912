"""Workers that do not answer: they get no connections, ``/health`` says so, and in the end they are replaced."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import aiohttp
import pytest

from pubsub.workers import beats
from pubsub.workers.beats import HUNG, HUNG_AT_START, Beats
from pubsub.workers.control import BEAT, READY, TROUBLE, Message
from pubsub.workers.spread import SILENT, Share, fewest_first
from pubsub.workers.worker import Worker
from tests.harness import LOCAL, PATIENCE, REPOSITORY, ForkedServer, clean_environment, eventually, on_one_loop
from tests.workers.serving import WorkersProcess

# The supervisor's side


class AskedWorker:
    """A worker as Beats use it. ``sent`` and ``signals``: what it was sent."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.starting = False
        self.share = Share()
        self.share.open = True
        self.sent: list[tuple[bytes, bytes]] = []
        self.signals: list[signal.Signals] = []

    def send(self, kind: bytes, body: bytes = b"") -> None:
        self.sent.append((kind, body))

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.signals.append(number)

    def answer(self) -> None:
        self.share.unanswered = 0

    @property
    def troubles(self) -> list[str]:
        return [body.decode() for kind, body in self.sent if kind == TROUBLE]


def beats_of(*workers: AskedWorker) -> Beats:
    return Beats([cast(Worker, each) for each in workers])


def test_a_worker_without_an_answer_is_asked_once_and_gets_no_connections_until_it_answers() -> None:
    quick, slow = AskedWorker(1), AskedWorker(2)
    asking = beats_of(quick, slow)
    for _ in range(SILENT + 1):
        assert fewest_first([slow.share]) == [slow.share]
        asking.beat()
        quick.answer()
    assert slow.sent.count((BEAT, b"")) == 1
    assert quick.sent.count((BEAT, b"")) == SILENT + 1
    assert fewest_first([quick.share, slow.share]) == [quick.share]
    assert quick.troubles == ["worker 2 does not answer"]
    slow.answer()
    asking.beat()
    assert quick.troubles == ["worker 2 does not answer", ""]
    assert fewest_first([slow.share]) == [slow.share]


def test_a_new_process_learns_what_the_others_know_and_a_worker_without_one_is_named() -> None:
    one, other = AskedWorker(1), AskedWorker(2)
    asking = beats_of(one, other)
    other.share.open = False
    asking.beat()
    asking.beat()
    assert one.troubles == ["worker 2 is being started again"]
    one.share = Share()
    one.share.open = True
    asking.beat()
    assert one.troubles == ["worker 2 is being started again"] * 2


def test_each_worker_knows_why_another_is_degraded_and_the_same_reason_is_told_once() -> None:
    workers = [AskedWorker(number) for number in (1, 2, 3)]
    workers[0].share.trouble = workers[1].share.trouble = "disk is full"
    asking = beats_of(*workers)
    asking.beat()
    assert [each.troubles for each in workers] == [["disk is full"]] * 3


@on_one_loop
async def test_a_worker_that_hangs_is_told_to_write_where_and_then_killed_but_not_its_successor(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(beats, "DUMP_WAIT", 0)
    stopped, blocked = AskedWorker(1), AskedWorker(2)
    asking = beats_of(stopped, blocked)
    for _ in range(HUNG + 1):
        asking.beat()
    blocked.share = Share()  # the first signal was enough
    await eventually(lambda: len(stopped.signals) == 2)
    assert stopped.signals == [signal.SIGABRT, signal.SIGKILL]
    assert blocked.signals == [signal.SIGABRT]
    assert caplog.messages == [f"Worker {number} has not answered for 30 seconds, and is ended" for number in (1, 2)]


@on_one_loop
async def test_a_worker_that_hangs_at_its_start_is_not_asked_and_has_more_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(beats, "DUMP_WAIT", 0)
    worker = AskedWorker(1)
    worker.starting, worker.share.open = True, False
    asking = beats_of(worker)
    for _ in range(HUNG_AT_START - 1):
        asking.beat()
    assert (worker.sent, worker.signals) == ([], [])
    asking.beat()
    await eventually(lambda: worker.signals == [signal.SIGABRT, signal.SIGKILL])
    assert caplog.messages == ["Worker 1 has not answered for 300 seconds, and is ended"]


def test_a_worker_that_has_started_slowly_takes_connections_at_once() -> None:
    worker = Worker(1, lambda: None)
    worker.share.unanswered = HUNG
    worker._take(Message(READY, b"", None))
    assert fewest_first([worker.share]) == [worker.share]


# Processes


class ImpatientProcess(WorkersProcess):
    """A server with workers whose supervisor waits for three seconds."""

    program: ClassVar[tuple[str, ...]] = (
        "-c",
        "import sys; from pubsub.workers import beats; beats.PERIOD, beats.HUNG, beats.DUMP_WAIT = 0.1, 30, 0.1; "
        "from pubsub.__main__ import main; sys.exit(main(['serve', *sys.argv[1:]]))",
        *LOCAL,
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkersProcess]:
    with ImpatientProcess(2, "--data-dir", str(tmp_path_factory.mktemp("beats") / "data")) as server:
        yield server


@on_one_loop
async def test_row_70_a_stopped_worker_is_replaced_and_meanwhile_the_other_serves_and_says_so(
    server: WorkersProcess,
) -> None:
    for worker in (2, 1):
        os.kill(server.pids[worker], signal.SIGSTOP)
        server.read_log_until(f"Worker {worker} has not answered for 3 seconds, and is ended")
        async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(force_close=True)) as http:
            assert (await ask(http))["status"] == "degraded"
            await eventually_all(http, servers={2}, status={None})
    assert "Traceback" not in server.log


def test_row_70_a_start_in_which_a_worker_hangs_is_ended() -> None:
    program = (
        "import sys; from pubsub.workers import beats, worker; worker.MODULE = 'tests.workers.hanging'; "
        "beats.PERIOD, beats.HUNG_AT_START, beats.DUMP_WAIT = 0.1, 5, 0; "
        "from pubsub.__main__ import main; sys.exit(main(['serve', '--workers', '2', '--port', '0']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, timeout=3 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Worker 1 has not answered for 0 seconds, and is ended" in done.stderr
    assert "Traceback" not in done.stderr


async def ask(http: aiohttp.ClientSession) -> dict[str, Any]:
    async with http.get("/health") as response:
        found: dict[str, Any] = await response.json()
        return found


async def eventually_all(http: aiohttp.ClientSession, **expected: set[Any]) -> None:
    """Wait until the workers, which are asked in turn, have these values among them."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = [await ask(http) for _ in range(4)]
            if all({each.get(name) for each in found} == values for name, values in expected.items()):
                return
            await asyncio.sleep(0.05)  # a request costs more than a look at this process


@on_one_loop
async def test_a_server_that_is_aborted_writes_where_it_was() -> None:
    with ForkedServer() as server:
        assert server.stop(signal.SIGABRT) == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in server.log
    assert "asyncio/runners.py" in server.log


@on_one_loop
async def test_every_worker_says_that_the_disk_of_the_owner_is_full(server: WorkersProcess) -> None:
    async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(force_close=True)) as http:
        limit = resource.prlimit(server.pids[1], resource.RLIMIT_FSIZE, (1, -1))
        async with http.post("/topics", json={"name": "d", "durable": True}) as response:
            assert response.status == 503
        await eventually_all(http, reason={"disk I/O error"})
        resource.prlimit(server.pids[1], resource.RLIMIT_FSIZE, limit)
        await eventually_all(http, reason={None})
