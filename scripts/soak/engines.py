"""Redis or Valkey as the engine of several servers, as real programs that a soak can kill, stop, empty and limit."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from victim import REPOSITORY, free_port, until

START_SEC = 30.0
UNPACKED = REPOSITORY / ".venv/valkey/usr/bin"  # where `make test` puts Debian's Valkey
# Nothing that was acknowledged is lost in a crash of the program, and full memory is an error.
DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction")


def find_program(name: str) -> str | None:
    """Return the path of the server `redis` or `valkey`."""
    return shutil.which(f"{name}-server", path=os.pathsep.join([os.environ.get("PATH", os.defpath), str(UNPACKED)]))


def path_of(name: str) -> str:
    if (found := find_program(name)) is None:
        raise RuntimeError(f"{name}-server is not installed")
    return found


def launch(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program. It ignores SIGXFSZ, as Python does: for limit_files, a write beyond the limit is an error."""
    with open(log, "ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, restore_signals=False)


def limit_files(process: subprocess.Popen[bytes], size: int) -> None:
    """Let no file of a program grow beyond a size, as on a full disk."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def size_of_file(folder: Path) -> int:
    """Return the size of the file to which a server with `appendonly` appends, in bytes."""
    files = [each.stat() for each in folder.glob("appendonlydir/*.incr.aof")]
    return max(files, key=lambda each: each.st_mtime_ns).st_size


@dataclass
class RedisProgram:
    """One server: `redis` or `valkey`. All its starts share a port and a folder. ``options``: flags beside DURABLE."""

    folder: Path
    options: Sequence[str] = ()
    name: str = "redis"
    port: int = field(default_factory=free_port)
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was started"
        return self._process

    def admin(self) -> Redis:
        return Redis(port=self.port, decode_responses=True, socket_timeout=5, retry=Retry(NoBackoff(), 0))

    async def start(self, *more: str) -> None:
        """Start it and wait until it answers, and has read its file. ``more``: flags for this start."""
        self.folder.mkdir(exist_ok=True)
        flags = ["--port", str(self.port), "--dir", str(self.folder), *DURABLE, *self.options, *more]
        command, log = [path_of(self.name), *flags], self.folder.with_suffix(".log")
        self._process = launch([*command, "--bind", "127.0.0.1"], log)
        self.starts += 1
        if not await until(self.answers, START_SEC):
            raise RuntimeError(f"{self.name}-server does not answer; its log ends with {log.read_text()[-500:]!r}")

    async def answers(self) -> bool:
        async with self.admin() as redis:
            try:
                return bool(await redis.ping())
            except (RedisError, OSError):
                return False

    async def is_replica(self) -> bool:
        """Return True if it follows a primary, and has all that this one had at the beginning."""
        async with self.admin() as redis:
            try:
                found = await redis.info("replication")
            except (RedisError, OSError):
                return False  # a change of its role ends connections
        return bool(found["role"] == "slave" and found["master_link_status"] == "up")

    async def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        await asyncio.to_thread(self.process.wait, START_SEC)

    def fill_disk(self, spare: int) -> None:
        limit_files(self.process, size_of_file(self.folder) + spare)

    def free_disk(self) -> None:
        limit_files(self.process, resource.RLIM_INFINITY)

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Remove all that it has on disk."""
        shutil.rmtree(self.folder)

    def kill(self) -> None:
        """Kill the process if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@dataclass
class SentinelProgram:
    """One sentinel, which fails over to a replica by itself once the master has been away for three seconds."""

    folder: Path
    master: int  # its port
    name: str = "redis"
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self.folder.mkdir()
        file = self.folder / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor soak 127.0.0.1 {self.master} 1\n"
            "sentinel down-after-milliseconds soak 3000\nsentinel failover-timeout soak 9000\n"
        )
        self._process = launch([path_of(self.name), str(file), "--sentinel"], self.folder / "log")
        if not await until(self.knows_a_replica, START_SEC):
            raise RuntimeError("the sentinel knows no replica")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was started"
        return self._process

    def admin(self) -> Redis:
        return Redis(port=self.port, decode_responses=True, socket_timeout=5, retry=Retry(NoBackoff(), 0))

    async def knows_a_replica(self) -> bool:
        async with self.admin() as sentinel:
            try:
                return bool(await sentinel.sentinel_slaves("soak"))
            except (RedisError, OSError):
                return False

    async def find_master(self) -> int:
        """Return the port of the master."""
        async with self.admin() as sentinel:
            address: Any = await sentinel.sentinel_get_master_addr_by_name("soak")
        return int(address[1])

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
