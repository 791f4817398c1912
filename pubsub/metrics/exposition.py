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
from pubsub.metrics.families import disk_families, families, process_families, topic_families, worker_families
from pubsub.metrics.merging import OtherWorkers, Part, merge
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


async def write_metrics(sources: Sources, form: Form, others: OtherWorkers | None = None) -> bytes:
    """All metrics of this moment, with those of the other workers, if there are any."""
    if others is None:
        return b"".join([*(part.text for part in await write_parts(sources, form)), form.end])
    gathered, own = await asyncio.gather(others.gather(openmetrics=form is OPENMETRICS), write_parts(sources, form))
    whole: list[bytes] = []
    for text in merge({**gathered.parts, others.number: own}):
        whole.append(text)
        await asyncio.sleep(0)
    up = {number for number in gathered.starts if number in gathered.parts or number == others.number}
    whole += [_encode(form, family) for family in worker_families(gathered.starts, up)]
    return b"".join([*whole, form.end])


async def write_parts(sources: Sources, form: Form) -> list[Part]:
    """The metrics of this process, by family."""
    snapshot = await take_snapshot(sources)
    parts: list[Part] = []
    for family in families(sources, snapshot):
        parts.append(_part(form, family))
        await asyncio.sleep(0)
    journal = sources.broker.durable_journal
    asked = partial(_ask_system, journal.measures.files if journal else ())
    parts += [_part(form, family) for family in await sources.system.ask(asked) or ()]
    parts += await _write_topics(snapshot.shown, form)
    return parts


async def _write_topics(topics: Sequence[Topic], form: Form) -> list[Part]:
    """The series of single topics: each family whole, although it is made in slices."""
    parts: dict[str, list[bytes]] = {}
    for some in slices(topics, TOPICS_AT_ONCE):
        for family in topic_families(some):
            found = parts.setdefault(family.name, [])
            encoded = _encode(form, family)
            found.append(_without_comments(encoded) if found else encoded)
        await asyncio.sleep(0)
    return [Part(name, b"".join(texts)) for name, texts in parts.items()]


def _ask_system(files: Sequence[str]) -> list[Metric]:
    """The families for which the system has to be asked (in a thread: a disk may not answer)."""
    disk = disk_families(measure_disk(files)) if files else ()
    return [*process_families(), *disk]


def _part(form: Form, family: Metric) -> Part:
    return Part(family.name, _encode(form, family))


def _encode(form: Form, family: Metric) -> bytes:
    return form.encode(Family(family)).removesuffix(END)


def _without_comments(text: bytes) -> bytes:
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"#"))
