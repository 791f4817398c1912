"""Sizes of regular expressions, which filters use in ``matches``. No I/O.

RE2 takes linear time, but compiles the expression at each evaluation, and may then spend 0.01 µs for each byte and each
element of it. So the size is limited, and the text to which it is applied (views.py).
"""

from __future__ import annotations

import re
from typing import Final

MAX_SIZE: Final = 100  # in one filter: 1.5 ms for a text of 1 KiB

# An expression is read as such elements; a class is one of them. What else there is counts as a literal.
_OPEN: Final = r"\(\?P?<\w+>|\(\?[\w-]*:|\((?!\?)"
_FLAGS: Final = r"\(\?[\w-]*\)"
_CLASS: Final = r"\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]"
_COUNT: Final = r"\{(\d+)(?:,(\d*))?\}"
_element: Final = re.compile(
    rf"(?P<open>{_OPEN})|(?P<close>\))|(?P<flags>{_FLAGS}|[|*+?^$])|(?P<count>{_COUNT})"
    rf"|(?P<refused>\\[pPQ]|\(\?)|(?P<literal>\\x\{{\w*\}}|\\.|{_CLASS}|.)",
    re.DOTALL,
)


class Unfit(ValueError):
    """The regular expression cannot be used. The text says why."""


def size_of(pattern: str) -> int:
    """The number of elements, each counted as often as it is repeated: ``(\\d{1,3}\\.){3}`` has 12. Raises Unfit."""
    sums = [0]  # of each group that is open
    last = 0
    for found in _element.finditer(pattern):
        match found.lastgroup:
            case "literal":
                last = 1
                sums[-1] += last
            case "open":
                sums.append(0)
            case "close" if len(sums) > 1:
                last = sums.pop()
                sums[-1] += last
            case "count":
                times = _times(found["count"])
                sums[-1] += last * (times - 1)
                last *= times
            case "flags":
                pass
            case _:
                raise Unfit(rf"{found[0]} cannot be used")
    return sum(sums)


def _times(count: str) -> int:
    """The larger number of ``{2,3}``, and at least 1: what is repeated 0 times is compiled too."""
    return max(1, *(int(number[:5]) for number in re.findall(r"\d+", count)))
