"""The metrics of several workers as one answer: each worker writes its own, and one of them puts them together. No I/O.

Whatever a worker counts has the label ``worker``, so that a worker that was started again resets its own counters and
no sum of them. What is the same for all of them comes from the first one, the owner, without that label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from msgspec import Struct

# Families of the topics, which all workers share, and of their journal.
OF_ALL: Final = ("pubsub_build", "pubsub_published_", "pubsub_topics", "pubsub_topic_published_", "pubsub_journal_",
                 "pubsub_disk_")  # fmt: skip


class Part(Struct, frozen=True, array_like=True, gc=False):
    """A family as text, with its comments."""

    name: str
    text: bytes


class Gathered(Struct, frozen=True):
    """The parts of the other workers by number, as far as they have answered, and the starts of all workers."""

    parts: dict[int, list[Part]]
    starts: dict[int, int]


class OtherWorkers(Protocol):
    """The workers beside this one. ``number``: this one's."""

    number: int

    async def gather(self, *, openmetrics: bool) -> Gathered:
        """Have the others write their metrics."""
        ...


def merge(parts: Mapping[int, Sequence[Part]]) -> Iterable[bytes]:
    """The families of all workers, each whole, in turn."""
    by_name: dict[str, dict[int, bytes]] = {}
    for number in sorted(parts):
        for part in parts[number]:
            by_name.setdefault(part.name, {})[number] = part.text
    for name, texts in by_name.items():
        if name.startswith(OF_ALL):
            if 1 in texts:
                yield texts[1]
            continue
        first = next(iter(texts.values()))
        yield b"".join([comments_of(first), *(labelled(text, number) for number, text in texts.items())])


def comments_of(text: bytes) -> bytes:
    return b"".join(line for line in text.splitlines(keepends=True) if line.startswith(b"#"))


def labelled(text: bytes, worker: int) -> bytes:
    """The samples of a family, with the label ``worker``."""
    label = b'worker="%d"' % worker
    return b"".join(_with(label, line) for line in text.splitlines(keepends=True) if not line.startswith(b"#"))


def _with(label: bytes, sample: bytes) -> bytes:
    """A sample with one label more. Its name has neither a brace nor a space."""
    name, brace, rest = sample.partition(b"{")
    if brace and b" " not in name:
        return b"%b{%b,%b" % (name, label, rest)
    name, _, rest = sample.partition(b" ")
    return b"%b{%b} %b" % (name, label, rest)
