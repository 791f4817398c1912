"""Payloads of messages from words and lines that a person or a program wrote. It must never publish."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
from msgspec import Raw

from pubsub.cli.running import Unusable
from pubsub.protocol.mistakes import shown

STANDARD_INPUT: Final = 0
CHUNK_BYTES: Final = 64 * 2**10
MAX_LINE_BYTES: Final = 64 * 2**20
"""The memory that one line may take. The servers' own limit is 1 MiB, unless they are set to another."""

ReadPayload = Callable[[str], Raw]

_decode: Final = msgspec.json.Decoder(Raw).decode


def read_json(text: str) -> Raw:
    """Take JSON as it was written; raises ValueError."""
    try:
        return _decode(text)
    except UnicodeEncodeError:
        raise ValueError("expected UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"expected JSON, got {shown(text)} (--text publishes text as it is): {error}") from None


def read_text(text: str) -> Raw:
    """Take text as a JSON string; raises ValueError."""
    try:
        return Raw(msgspec.json.encode(text))
    except UnicodeEncodeError:
        raise ValueError("expected UTF-8") from None


def read_payloads(read: ReadPayload, *, blank: bool) -> Iterator[list[Raw]]:
    """Yield the payloads in the lines of standard input, those together that came together.

    ``blank`` lines are payloads too, or are left out. Raises Unusable for a line that is none, after those before it.
    """
    number = 0
    for lines in read_lines():
        payloads: list[Raw] = []
        for line in lines:
            number += 1
            if blank or line.strip():
                try:
                    payloads.append(read(line.decode(errors="surrogateescape")))
                except ValueError as error:
                    yield payloads
                    raise Unusable(f"line {number:,}: {error}") from None
        yield payloads


def read_lines() -> Iterator[list[bytes]]:
    """Yield the lines of standard input, those together that came together. Raises Unusable for one without end."""
    begun: list[bytes] = []
    size = 0
    while chunk := os.read(STANDARD_INPUT, CHUNK_BYTES):
        *lines, rest = chunk.split(b"\n")
        if lines:
            yield [b"".join([*begun, lines[0]]), *lines[1:]]
            begun, size = [], 0
        begun.append(rest)
        size += len(rest)
        if size > MAX_LINE_BYTES:
            raise Unusable(f"a line of the input has more than {MAX_LINE_BYTES:,} bytes")
    if size:
        yield [b"".join(begun)]
