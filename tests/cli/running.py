"""Commands that talk to a server, run in this process or as a program of their own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pubsub.__main__ import main
from tests.harness import PATIENCE, REPOSITORY, Json, ServerProcess, clean_environment


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[Json]:
        return [json.loads(line) for line in self.out.splitlines()]


class Commands:
    """Runs commands against a server, and reads their output and errors from the file descriptors of this process."""

    def __init__(self, server: ServerProcess, capture: pytest.CaptureFixture[str]) -> None:
        self._server = server
        self._capture = capture

    def __call__(self, command: str, *flags: str, stdin: bytes = b"", url: str = "") -> Done:
        self._capture.readouterr()
        arguments = [command, "--url", url or self._server.url, *flags]
        if command == "sub" and "--timeout" not in flags:
            arguments += ["--timeout", str(PATIENCE)]  # a test fails then, rather than to wait for ever
        with standard_input(stdin):
            try:
                status = main(arguments)
            except SystemExit as end:  # of argparse
                status = int(str(end.code))
        out, err = self._capture.readouterr()
        return Done(status, out, err)


@contextlib.contextmanager
def standard_input(text: bytes) -> Iterator[None]:
    """Let file descriptor 0 be a pipe from which ``text`` comes."""
    before = os.dup(0)
    reader, writer = os.pipe()
    os.dup2(reader, 0)
    os.close(reader)
    writing = threading.Thread(target=write_all, args=(writer, text))
    writing.start()
    try:
        yield
    finally:
        os.dup2(before, 0)  # closes the reader: what was not read does not block the thread
        os.close(before)
        writing.join()


def write_all(descriptor: int, text: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), os.fdopen(descriptor, "wb") as stream:
        stream.write(text)


def create(server: ServerProcess, topic: str, **options: Any) -> None:
    body = json.dumps({"name": topic} | options).encode()
    urllib.request.urlopen(f"{server.url}/topics", data=body, timeout=PATIENCE).close()


def delete(server: ServerProcess, topic: str) -> None:
    deletion = urllib.request.Request(f"{server.url}/topics/{topic}", method="DELETE")
    urllib.request.urlopen(deletion, timeout=PATIENCE).close()


def start(command: str, *flags: str, **pipes: Any) -> subprocess.Popen[str]:
    """Start a command as a program. Standard output and error are pipes, unless ``pipes`` says otherwise."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "pubsub", command, *flags],
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | pipes,
        cwd=REPOSITORY,
        env=clean_environment(),
    )
