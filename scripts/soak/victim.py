"""The server under test, as a process on its own core: starts, stops and samples it, and reads its log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import Any

import aiohttp
from certificate import trusting
from oracle import Json

REPOSITORY = Path(__file__).parents[2]
SETTINGS: Mapping[str, str] = {
    "HOST": "127.0.0.1",
    "DATA_DIR": "data",
    "RING_BUFFER_SIZE": "1000",
    "PING_PERIOD_SEC": "5",
    "PONG_WAIT_SEC": "15",
    "WRITE_WAIT_SEC": "5",
    "READ_TIMEOUT_SEC": "5",
    "RECONNECT_SPREAD_SEC": "1",
    "LOG_LEVEL": "warn",
    "COMPRESSION": "on",
}
FAULTS = ("Traceback", "never retrieved", "Internal error", "exception ignored", "unhandled")
SAMPLE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Sample:
    at: float
    rss: int  # bytes
    descriptors: int


@dataclass
class Victim:
    """The server under test. ``core`` None: it may use all cores. All its starts share a port, a folder and a log.

    ``settings``: in addition to SETTINGS. ``files``: limit of open files, 0: the machine's limit. It imports modules
    from its folder first.
    """

    folder: Path
    core: int | None
    secret: str
    port: int = 0
    guarded: bool = False
    starts: int = 0
    samples: list[Sample] = field(default_factory=list)
    settings: Mapping[str, str] = field(default_factory=dict)
    files: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if 'TLS_CERT_FILE' in self.settings else 'http'}://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    async def start(self, *, guarded: bool) -> None:
        """Start it and wait until it serves. ``guarded``: its WebSocket clients need tokens."""
        self.port = self.port or free_port()
        self.guarded = guarded
        self._launch({"JWT_SECRET": self.secret} if guarded else {})
        self.starts += 1
        self.samples = []
        await self._until_it_serves()

    def _launch(self, settings: Mapping[str, str]) -> None:
        path = os.pathsep.join([str(self.folder), str(REPOSITORY)])
        environment = {
            **os.environ,
            **SETTINGS,
            "PORT": str(self.port),
            "PYTHONPATH": path,
            **self.settings,
            **settings,
        }
        limit = ["prlimit", f"--nofile={self.files}"] if self.files else []
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [*limit, sys.executable, "-m", "pubsub", "serve"],
                cwd=self.folder, env=environment, stdout=log, stderr=log,
                preexec_fn=None if self.core is None else self._pin,
            )  # fmt: skip

    def _pin(self) -> None:
        assert self.core is not None
        os.sched_setaffinity(0, {self.core})

    async def _until_it_serves(self) -> None:
        async with asyncio.timeout(30):
            while True:
                try:
                    await self.get("/health")
                    return
                except aiohttp.ClientError:
                    assert self.process.poll() is None, self.log.read_text()[-2000:]
                    await asyncio.sleep(0.05)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was started"
        return self._process

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, 30)

    async def check_journal(self) -> str:
        """Run `pubsub journal check` on the journal of the stopped server; return its complaints, or an empty text.

        It checks a copy, so that the next start of the server has to repair the original.
        """
        copy = self.folder / "copy"
        await asyncio.to_thread(shutil.copytree, self.folder / SETTINGS["DATA_DIR"], copy)
        checking = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pubsub", "journal", "check", "--data-dir", str(copy),
            cwd=self.folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await checking.communicate()
        await asyncio.to_thread(shutil.rmtree, copy)
        return output.decode() if checking.returncode else ""

    def kill(self) -> None:
        """Kill the process if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    async def watch(self) -> None:
        """Take samples until cancelled, over all its starts."""
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_SECONDS)

    def sample(self) -> Sample | None:
        proc = Path(f"/proc/{self.process.pid}")
        try:
            rss = int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            found = Sample(time.monotonic(), rss, len(os.listdir(proc / "fd")))
        except (OSError, IndexError):
            return None  # it is restarting
        self.samples.append(found)
        return found

    def cpu_seconds(self) -> float:
        """Return the user and system time since the last start."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def faults_logged(self) -> list[str]:
        return [line for line in self.log.read_text(errors="replace").splitlines() if any(map(line.count, FAULTS))]

    async def get(self, path: str) -> Json:
        return (await self.ask("GET", path))[1]

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Json]:
        sent = None if body is None else json.dumps(body)
        async with self.session() as http, http.request(method, path, data=sent) as answer:
            return answer.status, await answer.json()

    def session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(self.url, connector=aiohttp.TCPConnector(ssl=trusting()))


def free_port() -> int:
    """Return a port at which nothing listens. No connection gets it meanwhile, so a server can be started there again.

    Linux gives connections ports from 32,768 on, also one at which a server has listened before.
    """
    while True:
        port = SystemRandom().randrange(10_000, 32_768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


async def until(condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Wait for ``condition``, at most ``seconds``; return True if it became true."""
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.1)
    return True
