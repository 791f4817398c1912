"""Limits for payloads: valid JSON that common parsers refuse, found in steps that each run in C. No I/O."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Final

from pubsub.protocol.errors import BadRequest

MAX_DEPTH: Final = 512  # levels of nesting in a payload: CPython's own json gives up at 990, or less deep in a program
# CPython's own json refuses integers with more digits (sys.set_int_max_str_digits), and with it most Python clients.
_MAX_DIGITS: Final = 4300
_TOO_MANY_DIGITS: Final = b"0" * (_MAX_DIGITS + 1)
_DIGITS_AS_ZERO: Final = bytes.maketrans(b"123456789", b"0" * 9)


def check_large_payload(payload: bytes) -> None:
    """BadRequest for JSON that is nested too deep, or has numbers that are too long, for common parsers."""
    # "in" takes a tenth of a count, and most long payloads are a string.
    opened = (b"[" in payload and payload.count(b"[")) + (b"{" in payload and payload.count(b"{"))
    if opened > MAX_DEPTH and _depth(payload) > MAX_DEPTH:
        raise BadRequest(f"message.payload: expected at most {MAX_DEPTH} levels of nesting")
    if _has_many_digits(payload):
        try:
            json.loads(payload)
        except ValueError:
            raise BadRequest(f"message.payload: expected numbers of at most {_MAX_DIGITS} digits") from None


def _has_many_digits(payload: bytes) -> bool:
    """In a string or in a number. Up to 1 ms for a MiB; a regular expression takes 3 s where digits almost suffice."""
    if len(payload) <= _MAX_DIGITS or not any(
        # So many beside each other fill at least one of these blocks: most payloads are done with here.
        payload[at : at + _MAX_DIGITS // 2].isdigit()
        for at in range(0, len(payload), _MAX_DIGITS // 2)
    ):
        return False
    return _TOO_MANY_DIGITS in payload.translate(_DIGITS_AS_ZERO)


def _depth(payload: bytes) -> int:
    """How deep valid JSON is nested: 4 ms for a MiB of small objects, 18 for the worst, 5 µs for a KiB.

    In steps that each run in C. Two quotes beside each other are an empty string, or the seam of two strings whose
    contents may as well be one.
    """
    without_escapes = payload.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = without_escapes.translate(_ONE_KIND, _NO_MARKS).replace(b'""', b"")
    brackets = b"".join(marks.split(b'"')[::2])
    levels = 0
    while len(flatter := brackets.replace(b"[]", b"")) < len(brackets) * 7 // 8:  # worth a pass: the innermost go
        brackets, levels = flatter, levels + 1
    slopes = brackets.split(b"[]")[:-1]  # each leads up to a peak, the innermost of those that are left
    peaks = accumulate(2 * slope.count(b"[") - len(slope) for slope in slopes)
    return levels + max(peaks, default=-1) + 1


_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_NO_MARKS: Final = bytes(set(range(256)) - set(b'[{]}"'))
