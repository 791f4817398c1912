"""Starts and stops the server and the load generators, each on its core. Ends only processes that it started."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import machine
from catalog import FOLDER, PORT, SETTINGS, Launch
from install import HERE

START_SECONDS = 20
STOP_SECONDS = 10
FAULTS = ("lost", "duplicated", "disordered", "corrupt", "refused", "told_dropped", "closed")


class Failed(Exception):
    """A measurement has no figures, or messages were lost, duplicated or disordered: the reason in one line."""


class Load:
    """A running load generator. It reports its state in lines of JSON, and resumes when it gets a line."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self.process = process
        self._errors = errors

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None, "it is started with a pipe"
        line = self.process.stdout.readline()
        if not line:
            raise Failed(_last_line(self._errors))
        answer: dict[str, Any] = json.loads(line)
        if answer.get("ok") is False:
            raise Failed("; ".join(filter(None, [*_counted_faults(answer), _last_line(self._errors)])))
        return answer

    def resume(self) -> None:
        assert self.process.stdin is not None, "it is started with a pipe"
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@contextmanager
def running_load(program: Path, core: int, mode: str, options: Mapping[str, object]) -> Iterator[Load]:
    command = [str(program), mode, "--wait", *(f"--{name}={value}" for name, value in options.items())]
    with tempfile.TemporaryFile("w+") as errors:
        with machine.pinned(core):
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            yield Load(process, errors)
        finally:
            _stop(process)


class Beside:
    """A program that asks the server for something else during a measurement, and counts the answers."""

    def __init__(self, process: subprocess.Popen[str], counted: str) -> None:
        self.process = process
        self._counted = counted

    def await_ready(self) -> None:
        assert self.process.stdout is not None, "it is started with a pipe"
        if not self.process.stdout.readline():
            raise Failed(f"the server did not answer the program that counts {self._counted}")

    def end(self) -> int:
        """End the program and return its count."""
        answer, _ = self.process.communicate()
        if not answer:
            raise Failed(f"the program that counts {self._counted} did not end as expected")
        count: int = json.loads(answer)[self._counted]
        return count


@contextmanager
def running_beside(script: str, arguments: Sequence[object], core: int, *, counted: str) -> Iterator[Beside]:
    with machine.pinned(core):
        command = [sys.executable, str(HERE / script), *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Beside(process, counted)
    finally:
        _stop(process)


@contextmanager
def running_server(launch: Launch, core: int, disk: Path | None = None) -> Iterator[tuple[int, int]]:
    """Yield its process id and port. It runs in a new folder in `disk`, so it reads no settings of this repository.

    Python writes its bytecode once, as it does when it is installed: without that the server has 0.4 MiB more.
    """
    port = _free_port()
    with tempfile.TemporaryDirectory(dir=disk) as folder, open(Path(folder, "output"), "w+") as output:
        Path(folder, "settings").write_text(_filled(launch.settings, port, folder))
        command = [_filled(word, port, folder) for word in launch.command]
        environment = {**os.environ, **launch.environment, "PYTHONDONTWRITEBYTECODE": ""}
        with machine.pinned(core):
            server = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output, text=True)
        try:
            _await_listening(server, port, output)
            yield server.pid, port
        finally:
            _stop(server)


def run_alone(launch: Launch, core: int, disk: Path, *arguments: object) -> dict[str, Any]:
    """Run a program that measures itself, and return its figures."""
    with tempfile.TemporaryDirectory(dir=disk) as folder, machine.pinned(core):
        command = [*(_filled(word, 0, folder) for word in launch.command), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failed("".join(done.stderr.splitlines()[-1:]))
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _filled(text: str, port: int, folder: str) -> str:
    for placeholder, value in ((PORT, str(port)), (FOLDER, folder), (SETTINGS, f"{folder}/settings")):
        text = text.replace(placeholder, value)
    return text


def _await_listening(server: subprocess.Popen[str], port: int, output: IO[str]) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and server.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
    raise Failed(f"did not start: {_last_line(output)}")


def _counted_faults(answer: Mapping[str, Any]) -> list[str]:
    counted = [f"{fault} {answer[fault]}" for fault in FAULTS if answer[fault]]
    return counted if answer["complete"] else [*counted, "not complete in time"]


def _last_line(output: IO[str]) -> str:
    output.seek(0)
    return "".join(output.readlines()[-1:]).strip()
