"""The part of a payload that makes it as long as the run wants. It must never have a character that JSON escapes."""

from __future__ import annotations

from random import Random
from typing import Final

_WORDS: Final = ("amber", "basil", "copper", "delta", "ember", "garnet", "harbor", "juniper", "kelp", "linen", "maple",
                 "nickel", "olive", "pepper")  # fmt: skip


def plain(size: int) -> str:
    """Return one letter, repeated: no client or server looks at it."""
    return "x" * size


def varied(size: int) -> str:
    """Return words and numbers, which compress to about half, as payloads of real messages do. Always the same."""
    random, text = Random(0), ""
    while len(text) < size:
        text += f"{random.choice(_WORDS)} {random.choice(_WORDS)}: {random.randrange(100_000) / 100}; "
    return text[:size]
