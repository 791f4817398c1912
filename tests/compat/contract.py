"""The basic contract and a replay as a table of frames: those that a client sends, and those that it gets for them.

``>`` marks a frame that is sent, ``<`` one that comes. An event may also come before the ack above it.
TS, TEXT and EPOCH stand for any time, for any text and for the epoch of the topic; the others for what FILLINGS has.
"""

from __future__ import annotations

import asyncio
import json
import re
from itertools import groupby
from operator import itemgetter
from typing import Any, Protocol

from tests.harness import PATIENCE, Json

CONTRACT = """
> {"type":"subscribe","topic":"orders","client_id":"c","request_id":"s1"}
< {"type":"ack","request_id":"s1","topic":"orders","status":"ok","epoch":"EPOCH","seq":0,"ts":"TS"}
> {"type":"publish","topic":"orders","message":{"id":"ID1","payload":{"amount":99.50}},"request_id":"p1"}
< {"type":"ack","request_id":"p1","topic":"orders","status":"ok","seq":1,"ts":"TS"}
< {"type":"event","topic":"orders","message":{"id":"ID1","payload":{"amount":99.50}},"seq":1,"ts":"TS"}
> {"type":"publish","topic":"orders","message":{"id":"ID2","payload":"Zoë 漢字 🎈"}}
< {"type":"ack","topic":"orders","status":"ok","seq":2,"ts":"TS"}
< {"type":"event","topic":"orders","message":{"id":"ID2","payload":"Zoë 漢字 🎈"},"seq":2,"ts":"TS"}
> {"type":"publish","topic":"orders","message":{"id":"ID3","payload":"LONG"}}
< {"type":"ack","topic":"orders","status":"ok","seq":3,"ts":"TS"}
< {"type":"event","topic":"orders","message":{"id":"ID3","payload":"LONG"},"seq":3,"ts":"TS"}
> {"type":"publish","topic":"orders","message":{"id":"ID4","payload":"LONGER"}}
< {"type":"ack","topic":"orders","status":"ok","seq":4,"ts":"TS"}
< {"type":"event","topic":"orders","message":{"id":"ID4","payload":"LONGER"},"seq":4,"ts":"TS"}

> this is no JSON
< {"type":"error","error":{"code":"BAD_REQUEST","message":"TEXT"},"ts":"TS"}
> {"type":"publish","topic":"orders","message":{"id":"7","payload":null},"request_id":"p2"}
< {"type":"error","request_id":"p2","error":{"code":"BAD_REQUEST","message":"TEXT"},"ts":"TS"}
> {"type":"subscribe","topic":"no","client_id":"c","request_id":"s2"}
< {"type":"error","request_id":"s2","error":{"code":"TOPIC_NOT_FOUND","message":"Topic 'no' does not exist"},"ts":"TS"}
> {"type":"ping","request_id":"i1"}
< {"type":"pong","request_id":"i1","ts":"TS"}

> {"type":"unsubscribe","topic":"orders","client_id":"c","request_id":"u1"}
< {"type":"ack","request_id":"u1","topic":"orders","status":"ok","ts":"TS"}
> {"type":"publish","topic":"orders","message":{"id":"ID5","payload":null}}
< {"type":"ack","topic":"orders","status":"ok","seq":5,"ts":"TS"}

> {"type":"subscribe","topic":"orders","client_id":"c","last_n":1,"request_id":"s3"}
< {"type":"ack","request_id":"s3","topic":"orders","status":"ok","epoch":"EPOCH","seq":5,"ts":"TS"}
< {"type":"event","topic":"orders","message":{"id":"ID5","payload":null},"seq":5,"ts":"TS"}
> {"type":"subscribe","topic":"orders","client_id":"c","resume":{"orders":{"epoch":"EPOCH","seq":3}},"request_id":"s4"}
< {"type":"ack","request_id":"s4","topic":"orders","status":"ok","epoch":"EPOCH","seq":5,"recovered":true,"ts":"TS"}
< {"type":"event","topic":"orders","message":{"id":"ID4","payload":"LONGER"},"seq":4,"ts":"TS"}
< {"type":"event","topic":"orders","message":{"id":"ID5","payload":null},"seq":5,"ts":"TS"}

< {"type":"info","msg":"ping","ts":"TS"}
"""
FILLINGS = {f"ID{number}": f"550e8400-e29b-41d4-a716-44665544000{number}" for number in range(1, 6)} | {
    "LONGER": "y" * 70_000,  # LONG and LONGER make the two longer forms of a frame's length (RFC 6455, 5.2)
    "LONG": "x" * 200,
}
PATTERNS = {"TS": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TEXT": ".+"}


class Wire(Protocol):
    """A connection of a client that knows WebSocket and nothing of this protocol."""

    async def send(self, text: str) -> None: ...

    async def receive(self) -> str:
        """Return the next text message."""
        ...

    async def close(self) -> None:
        """Close with code 1000."""
        ...

    async def closed(self) -> int:
        """Wait until the server has closed; return its close code, 0 for a client that can't tell it."""
        ...


async def follow(wire: Wire, topic: str) -> None:
    """Follow the table with a topic that is new."""
    epoch = "EPOCH"
    for mark, lines in groupby(table(topic), key=itemgetter(0)):
        if mark == ">":
            for line in lines:
                await wire.send(line[2:].replace("EPOCH", epoch))
            continue
        expected = [json.loads(line[2:]) for line in lines]
        received = [await next_message(wire, heartbeat=each["type"] == "info") for each in expected]
        epoch = received[0].get("epoch", epoch)
        for got, wanted in zip(sorted(received, key=is_event), sorted(expected, key=is_event), strict=True):
            check(got, wanted, epoch)


def table(topic: str) -> list[str]:
    text = CONTRACT.replace('"orders"', f'"{topic}"')
    for name, filling in FILLINGS.items():
        text = text.replace(f'"{name}"', f'"{filling}"')
    return [line for line in text.splitlines() if line]


async def next_message(wire: Wire, *, heartbeat: bool) -> Json:
    """Return the next message that is a heartbeat, or is none."""
    async with asyncio.timeout(PATIENCE):
        while True:
            text = await wire.receive()
            message: Json = json.loads(text)
            if (message.get("msg") == "ping") == heartbeat:
                assert '"amount"' not in text or '{"amount":99.50}' in text, "a payload comes as it was written"
                return message


def is_event(message: Json) -> bool:
    return bool(message["type"] == "event")


def check(received: Any, expected: Any, epoch: str) -> None:
    """Compare a message, or a part of one, with the table."""
    if isinstance(expected, dict):
        assert received.keys() == expected.keys(), received
        for name, value in expected.items():
            check(received[name], value, epoch)
    elif expected in PATTERNS:
        assert re.fullmatch(PATTERNS[expected], received), received
    else:
        assert received == (epoch if expected == "EPOCH" else expected)
