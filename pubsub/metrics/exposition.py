"""The metrics as text, made in slices: prometheus_client takes 10 µs for a sample. It knows no route."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics

from pubsub.core.topic import Topic
from pubsub.metrics.disk import measure_disk
from pubsub.metrics.families import disk_families, families, process_families, topic_families
from pubsub.metrics.snapshot import slices, take_snapshot
from pubsub.metrics.sources import Sources

TOPICS_AT_ONCE: Final = 50  # of three samples each
END: Final = b"# EOF\n"  # of OpenMetrics


@dataclass(frozen=True, slots=True)
class Form:
    """A form of the text. ``encode`` takes a collector of prometheus_client."""

    content_type: str
    encode: Callable[[Any], bytes]
    end: bytes


PLAIN: Final = Form(CONTENT_TYPE_PLAIN_0_0_4, generate_latest, b"")
OPENMETRICS: Final = Form(openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest, END)


class Family:
    """A collector with one family."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return [self._metric]


def choose_form(accepted: str) -> Form:
    """OpenMetrics if the header ``Accept`` names it, else the plain text of Prometheus."""
    return OPENMETRICS if "application/openmetrics-text" in accepted else PLAIN


async def write_metrics(sources: Sources, form: Form) -> bytes:
    """All metrics of this moment."""
    snapshot = await take_snapshot(sources)
    parts: list[bytes] = []
    for family in families(sources, snapshot):
        parts.append(_encode(form, family))
        await asyncio.sleep(0)
    journal = sources.broker.durable_journal
    asked = partial(_ask_system, journal.measures.files if journal else ())
    parts += [_encode(form, family) for family in await sources.system.ask(asked) or ()]
    parts += await _write_topics(snapshot.shown, form)
    return b"".join([*parts, form.end])


async def _write_topics(topics: Sequence[Topic], form: Form) -> list[bytes]:
    """The series of single topics: each family whole, although it is made in slices."""
    parts: list[list[bytes]] = []
    for number, some in enumerate(slices(topics, TOPICS_AT_ONCE)):
        encoded = [_encode(form, family) for family in topic_families(some)]
        if number:
            for part, samples in zip(parts, encoded, strict=True):
                part.append(_without_comments(samples))
        else:
            parts = [[each] for each in encoded]
        await asyncio.sleep(0)
    return [b"".join(part) for part in parts]


def _ask_system(files: Sequence[str]) -> list[Metric]:
    """The families for which the system has to be asked (in a thread: a disk may not answer)."""
    disk = disk_families(measure_disk(files)) if files else ()
    return [*process_families(), *disk]


def _encode(form: Form, family: Metric) -> bytes:
    return form.encode(Family(family)).removesuffix(END)


def _without_comments(text: bytes) -> bytes:
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"#"))
