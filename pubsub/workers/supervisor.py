"""``serve --workers N``: one process supervises the workers. It serves nobody itself, and imports no aiohttp.

The first worker is the owner of the journals, unless JOURNAL_URL names an engine of its own; the others are its
clients. Whichever dies is started again; the others serve on meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Final

from pubsub.listening import log_addresses, log_configuration, open_sockets, scheme_of
from pubsub.settings import LIVE, Settings, SettingsError
from pubsub.system.descriptors import raise_limit
from pubsub.system.service_manager import tell_end, tell_started
from pubsub.system.unix_socket import is_unix
from pubsub.wanted_settings import WantedSettings
from pubsub.workers.accepting import Accepting
from pubsub.workers.beats import Beats
from pubsub.workers.control import GONE, Start
from pubsub.workers.gathering import Gathering
from pubsub.workers.worker import Worker

log = logging.getLogger(__name__)

SOCKET: Final = "owner.sock"  # of the owner, in a directory that only this user may enter


def supervise(settings: Settings, handed_over: Sequence[socket.socket], read_again: Callable[[], Settings]) -> int:
    """Run the workers until a signal comes; the exit status. Raises ListenError.

    ``read_again`` reads the settings at SIGHUP, in a thread.
    """
    with nullcontext("") if settings.journal_url else place_for_owner() as path:
        return asyncio.run(_run(Supervisor(settings, read_again, path), handed_over))


async def _run(supervisor: Supervisor, handed_over: Sequence[socket.socket]) -> int:
    return await supervisor.run(handed_over)


@contextmanager
def place_for_owner() -> Iterator[str]:
    """The path of the owner's socket, in a directory of its own; without a place for files, an abstract one."""
    try:
        directory = tempfile.mkdtemp(prefix="pubsub-")
    except OSError:  # a container whose files are read only
        yield f"@pubsub-{secrets.token_hex(8)}"
        return
    try:
        yield str(Path(directory) / SOCKET)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Supervisor:
    """See the module. ``path``: of the owner's socket; empty if there is no owner."""

    def __init__(self, settings: Settings, read_again: Callable[[], Settings], path: str) -> None:
        self._settings = settings
        self._wanted = WantedSettings(read_again, settings.env_file)
        self._owning = path
        self._hosts: list[str] = []
        self._stop: asyncio.Event
        self._status: int | None = None  # of a worker that could not start
        self._reading: asyncio.Task[None] | None = None

    async def run(self, handed_over: Sequence[socket.socket]) -> int:
        log_configuration(self._settings)
        raise_limit()
        self._stop = asyncio.Event()
        self._workers = [Worker(number, self._accept) for number in range(1, self._settings.workers + 1)]
        self._beats = Beats(self._workers)
        gathering = Gathering(self._workers)
        for worker in self._workers:
            worker.asked = gathering.take
        sockets = await open_sockets(self._settings, handed_over)
        self._hosts = [sock.getsockname()[0] for sock in sockets if not is_unix(sock)]
        self._accepting: Accepting | None = None
        self._heed_signals()
        tasks = [asyncio.create_task(self._keep(worker)) for worker in self._workers]
        tasks.append(asyncio.create_task(self._beats.run()))
        accepting = Accepting(sockets, self._workers)
        try:
            if await self._all_ready():
                log_addresses(sockets, scheme_of(self._settings))
                self._accepting = accepting
                self._beats.tell_trouble()  # that of the start is over
                accepting.start()
                tell_started()
                await self._stop.wait()
                tell_end()
        finally:
            await self._shut_down(accepting)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        log.info("Shutdown complete")
        return self._status or 0

    def _accept(self) -> None:
        if self._accepting is not None:
            self._accepting.start()

    # Workers

    async def _all_ready(self) -> bool:
        """Wait until all workers are ready. False if they are to end before."""
        for worker in self._workers:
            ready = asyncio.create_task(worker.ready.wait())
            stop = asyncio.create_task(self._stop.wait())
            _, pending = await asyncio.wait([ready, stop], return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            if self._stop.is_set():
                return False
        return True

    async def _keep(self, worker: Worker) -> None:
        """Run a worker, and run it again whenever it ends, until all are to end.

        The others start after the first one: they need the owner, and a mistake is told once.
        """
        if worker.number > 1:
            await self._workers[0].ready.wait()
        while not self._stop.is_set():
            status = await worker.run(self._start_of(worker))
            self._tell_end(worker)
            if self._stop.is_set():
                return
            if not worker.ready.is_set() and worker.starts == 1:
                self._status = status if status > 0 else 1
                self._stop.set()
                return
            pause = worker.pauses.after(worker.served)
            log.error(
                "Worker %(worker)d has ended (%(how)s); it is started again in %(pause).1f seconds",
                {"worker": worker.number, "how": how_of(status), "pause": pause},
            )
            await asyncio.sleep(pause)

    def _tell_end(self, ended: Worker) -> None:
        """Tell the others, which would wait for its answers for some seconds."""
        for worker in self._workers:
            worker.send(GONE, ended.server)
        self._beats.tell_trouble()

    def _start_of(self, worker: Worker) -> Start:
        owns = bool(self._owning) and worker.number == 1
        return Start(
            worker.number,
            self._settings if owns or not self._owning else replace(self._settings, journal_url=f"unix:{self._owning}"),
            self._owning if owns else "",
            sum(each.running for each in self._workers if each is not worker),
            self._hosts if worker.number == 1 else [],
        )

    async def _shut_down(self, accepting: Accepting) -> None:
        """End the workers in turn, the owner last: the others need it for what their clients have published."""
        self._stop.set()
        loop = asyncio.get_running_loop()
        for worker in self._workers:
            worker.leave()
        if self._status is None and any(worker.ready.is_set() for worker in self._workers):
            await asyncio.sleep(self._settings.drain_sec)
        self._accepting = None
        accepting.close()
        end = loop.time() + self._settings.shutdown_timeout_sec
        for left, worker in zip(range(len(self._workers), 0, -1), reversed(self._workers), strict=True):
            await worker.drain(max(0.1, (end - loop.time()) / left))

    # Signals

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()

        def begin(number: signal.Signals) -> None:
            for each in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(each, self._end_at_once, each)
            log.info("%(signal)s: shutting down", {"signal": number.name})
            self._stop.set()

        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, begin, each)
        had_terminal = os.isatty(0)

        def hang_up() -> None:
            if had_terminal and not os.isatty(0):
                begin(signal.SIGTERM)
            elif self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read_settings())

        loop.add_signal_handler(signal.SIGHUP, hang_up)

    def _end_at_once(self, number: signal.Signals) -> None:
        for worker in self._workers:
            worker.kill()
        if Path(self._owning).name == SOCKET:
            shutil.rmtree(Path(self._owning).parent, ignore_errors=True)
        os._exit(128 + number)

    async def _read_settings(self) -> None:
        """Read the settings again, and hand them to the workers: those put the live ones in force."""
        try:
            wanted = await asyncio.to_thread(self._wanted.read)
        except SettingsError as error:
            for mistake in error.mistakes:
                log.error("Settings not reloaded: %(mistake)s", {"mistake": mistake})
            return
        self._settings = replace(self._settings, **{name: getattr(wanted, name) for name in LIVE})
        for worker in self._workers:
            worker.change_settings(wanted)


def how_of(status: int) -> str:
    """The end of a process in words."""
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
