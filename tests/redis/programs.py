"""Real servers of Redis and Valkey, and their sentinels, for tests."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import redis
from engines import find_program, launch, limit_files, size_of_file

from tests.harness import PATIENCE, free_port


def need(name: str) -> str:
    """Return the path of the server `redis` or `valkey`. Skip the test without it; fail where all tests must run."""
    program = find_program(name)
    if program is None:
        lacks = f"needs {name}-server: run make test, or apt-get install {name}-server"
        assert os.environ.get("CI") != "true", lacks
        pytest.skip(lacks)
    return program


class RedisServer:
    """A server with a directory of its own: `redis` or `valkey`. ``admin`` is a client for the test itself."""

    def __init__(self, directory: Path, *flags: str, sentinel: bool = False, name: str = "redis") -> None:
        self._program = need(name)
        self.port = next(port for port in iter(free_port, 0) if port < 50_000)  # a cluster takes another, 10,000 above
        self.directory = directory
        self._flags = flags
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    @classmethod
    @contextmanager
    def run(cls, directory: Path, *flags: str, name: str = "redis") -> Iterator[Self]:
        server = cls(directory, *flags, name=name)
        try:
            server.start()
            yield server
        finally:
            server.kill()

    @property
    def admin(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=PATIENCE)

    def url(self, prefix: str, **options: str) -> str:
        more = "".join(f"&{name}={value}" for name, value in options.items())
        return f"redis://127.0.0.1:{self.port}?prefix={prefix}{more}"

    def start(self) -> None:
        if self._sentinel:
            flags = [str(self.directory / "sentinel.conf"), "--sentinel"]
        else:
            flags = ["--save", "", "--dir", str(self.directory), "--bind", "127.0.0.1", *self._flags]
        self._process = launch([self._program, *flags, "--port", str(self.port)], self.directory / "log")
        self.wait()

    def wait(self) -> None:
        """Wait until it serves."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self.admin as admin:
                    admin.ping()
                return
            except redis.AuthenticationError:
                return
            except (redis.ConnectionError, redis.BusyLoadingError):
                assert time.monotonic() < deadline, (self.directory / "log").read_text()
                time.sleep(0.01)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self, *, empty: bool = False) -> None:
        """Kill it, and start it again, with its data or without."""
        self.kill()
        if empty:
            shutil.rmtree(self.directory)
            self.directory.mkdir()
        self.start()

    def fill_disk(self) -> None:
        """Let it append nothing to its file."""
        assert self._process is not None, "it runs"
        limit_files(self._process, size_of_file(self.directory))

    def free_disk(self) -> None:
        assert self._process is not None, "it runs"
        limit_files(self._process, resource.RLIM_INFINITY)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "it runs"
        self._process.send_signal(number)

    def info(self, section: str) -> dict[str, Any]:
        with self.admin as admin:
            return admin.info(section)  # type: ignore[no-any-return]
