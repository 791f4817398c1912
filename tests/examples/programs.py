"""Programs of examples/, started by the commands of examples/README.md, on ports that are free."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.harness import PATIENCE, REPOSITORY, ServerProcess, clean_environment

EXAMPLES = REPOSITORY / "examples"
README = (EXAMPLES / "README.md").read_text(encoding="utf-8")
SITE = "http://localhost:8000"  # the address of the pages in the commands


def command(part: str) -> list[str]:
    """Return the command of the README that has this part, with the interpreter of these tests."""
    (found,) = {line for line in re.findall(r"^\$ (.+)$", README, re.MULTILINE) if part in line}
    return [sys.executable if word == ".venv/bin/python" else word for word in shlex.split(found)]


class ExampleServer(ServerProcess):
    """The server of all examples. Its durable topics are in ``folder``."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        words = command("pubsub serve")
        super().__init__(*words[words.index("serve") + 1 :], "--data-dir", str(folder), "--port", str(port))


class Program:
    """A program in its own group of processes, ready when ``count`` lines of its output match ``ready``.

    It listens on ``port``: each program has its own way to be told.
    """

    def __init__(self, part: str, ready: str = "", *, port: int = 0, count: int = 1, **environment: str) -> None:
        words = [str(port) if word == "8000" else word for word in command(part)]
        ports = {"PORT": str(port), "UVICORN_PORT": str(port), "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{port}"}
        self._process = subprocess.Popen(
            words, cwd=REPOSITORY, env=clean_environment() | ports | {"PYTHONUNBUFFERED": "1"} | environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        for _ in range(count if ready else 0):
            self.read_until(ready)

    def read_until(self, pattern: str) -> None:
        """Read the output up to a line that matches ``pattern``."""
        assert self._process.stdout is not None
        text = ""
        for line in self._process.stdout:
            text += line
            if re.search(pattern, line):
                return
        raise AssertionError(f"the output ended without {pattern!r}:\n{text}")

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the program and its children, and wait for its end."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)
            self._process.wait(timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()


def run(part: str, **environment: str) -> None:
    """Run a command of the README to its end."""
    subprocess.run(command(part), cwd=REPOSITORY, env=clean_environment() | environment, timeout=PATIENCE, check=True)


def post(url: str, body: str) -> Any:
    """POST JSON; return the JSON of the answer."""
    return get(urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"}))


def get(url: str | urllib.request.Request) -> Any:
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        return json.load(response)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` is true: another process gives no event to wait for."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)
