"""The metrics as families of prometheus_client: names, meanings and labels. Values come from the sources alone.

This module is imported with the first scrape: prometheus_client takes 2 MiB, which a server without scrapes has not.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from pubsub.core.histogram import Histogram
from pubsub.core.topic import Topic
from pubsub.metrics.disk import DiskUse
from pubsub.metrics.snapshot import Queues, Snapshot
from pubsub.metrics.sources import Sources
from pubsub.websocket.ending import Ending
from pubsub.websocket.peer import TRANSPORTS
from pubsub.websocket.services import Services

Labels = tuple[str, ...]

_process: Final = ProcessCollector(registry=None)


def process_families() -> list[Metric]:
    """Memory, CPU and descriptors. It reads /proc, so call it in a thread: 10,000 descriptors take 5 ms."""
    return list(_process.collect())


def families(sources: Sources, snapshot: Snapshot) -> Iterator[Metric]:
    """All families but those of single topics, of the disk and of the process."""
    yield _info("pubsub_build", "Version of the server and of Python.",
                version=sources.version, python=platform.python_version())  # fmt: skip
    yield from _messages(sources, snapshot)
    yield from _connections(sources.services)
    yield from _queues(snapshot.queues)
    yield from _topics(sources, snapshot)
    yield _counter("pubsub_authentication_failures", "Wrong API keys and tokens.", sources.authentication_failures())
    yield _counter("pubsub_rate_limited_requests", "Requests over the rate of their client.", sources.rate_limited())
    yield _histogram("pubsub_event_loop_lag_seconds", "Time for which a due callback waits.", sources.loop_lag)
    yield from _journal(sources)


def _messages(sources: Sources, snapshot: Snapshot) -> Iterator[Metric]:
    broker, meter = sources.broker, sources.services.meter
    published, delivered, losses = snapshot.published, broker.delivered, broker.losses
    yield _counter("pubsub_published_messages", "Messages that topics have accepted.", published.messages)
    yield _counter("pubsub_published_bytes", "Bytes of their events.", published.bytes)
    yield _counter("pubsub_delivered_messages", "Events written to the sockets of subscribers.", delivered.messages)
    yield _counter("pubsub_delivered_bytes", "Bytes of these events as they were written.", delivered.bytes)
    yield _counter("pubsub_lost_messages", "Events that a subscriber was to get and does not get, by reason.",
                   {(reason.value,): count for reason, count in losses.counts.items()}, "reason")  # fmt: skip
    letters = sources.dead_letters
    yield _counter("pubsub_dead_letters", "Dead letters that were published.", letters.written)
    yield _counter("pubsub_dead_letters_failed_messages", "Lost events whose dead letters could not be published.",
                   letters.failed)  # fmt: skip
    yield _counter("pubsub_gaps", "Gaps that subscribers were told of.", losses.gaps)
    resumes: dict[Labels, float] = {(str(each).lower(),): count for each, count in broker.arrivals.resumes.items()}
    yield _counter("pubsub_resumes", "Subscriptions that resumed, by success.", resumes, "recovered")
    yield _counter("pubsub_received_bytes", "Bytes that WebSocket clients have sent.", meter.received)
    yield _counter("pubsub_answered_bytes", "Bytes of answers and heartbeats to clients.", meter.answered)
    yield _histogram("pubsub_delivery_latency_seconds", "Time from a message in its topic to the end of its writes.",
                     broker.flushes.latency)  # fmt: skip


def _connections(services: Services) -> Iterator[Metric]:
    counts, departures = services.connections.counts, services.departures.counts
    ended = {(transport, ending): departures[transport, ending] for transport in TRANSPORTS for ending in Ending}
    opened = {name: counts[name] + sum(departures[name, ending] for ending in Ending) for name in TRANSPORTS}
    yield _gauge("pubsub_connections", "Open connections, by transport.",
                 {(name,): counts[name] for name in TRANSPORTS}, "transport")  # fmt: skip
    yield _counter("pubsub_connections_opened", "Connections that were opened, by transport.",
                   {(name,): count for name, count in opened.items()}, "transport")  # fmt: skip
    yield _counter("pubsub_connections_ended", "Connections that have ended, by transport, kind and close code.",
                   {(name, ending.name.lower(), _code_of(ending)): count for (name, ending), count in ended.items()},
                   "transport", "ending", "code")  # fmt: skip
    yield _histogram("pubsub_heartbeat_round_trip_seconds", "Time from a ping to its pong.", services.meter.round_trips)


def _code_of(ending: Ending) -> str:
    """The close code of the server; empty without a close frame of its own."""
    return str(ending.close_reason.code) if ending.close_reason is not None else ""


def _queues(queues: Queues) -> Iterator[Metric]:
    yield _gauge("pubsub_lagging_connections", "Connections whose sockets accept no data.", queues.clients)
    yield _gauge("pubsub_queued_messages", "Events that wait for these connections.", queues.messages)
    yield _gauge("pubsub_deepest_queue_messages", "Events in the longest of their queues.", queues.deepest)
    yield _gauge("pubsub_longest_stall_seconds", "The longest time for which one of them has taken nothing.",
                 queues.stalled)  # fmt: skip


def _topics(sources: Sources, snapshot: Snapshot) -> Iterator[Metric]:
    filters = sources.broker.filters
    yield _gauge("pubsub_topics", "Topics, by durability.",
                 {("true",): snapshot.durable, ("false",): snapshot.in_memory}, "durable")  # fmt: skip
    yield _gauge("pubsub_topics_without_series", "Topics that have no series of their own (METRICS_TOPICS).",
                 snapshot.durable + snapshot.in_memory - len(snapshot.shown))  # fmt: skip
    yield _gauge("pubsub_subscribers", "Connections with a subscription.", sources.broker.subscriber_count)
    yield _gauge("pubsub_filters", "Filters in use that differ.", filters.in_use)
    yield _counter("pubsub_filter_failures", "Evaluations of filters that ended in an error.", filters.failures)


def _journal(sources: Sources) -> Iterator[Metric]:
    journal = sources.broker.durable_journal
    if journal is None:
        return
    measures = journal.measures
    yield _histogram("pubsub_journal_commit_seconds", "Time of a group commit.", measures.commits)
    yield _counter("pubsub_journal_failures", "Writes to the journal that failed.", measures.failures)
    yield _gauge("pubsub_journal_failing", "1 while durable messages cannot be stored.", int(bool(journal.failure)))
    yield _gauge("pubsub_journal_waiting_bytes", "Bytes of publishes that wait for the disk.", measures.waiting_bytes)


def disk_families(disk: DiskUse) -> Iterator[Metric]:
    yield _gauge("pubsub_journal_size_bytes", "Sizes of the journal's files.",
                 {(name,): size for name, size in disk.files.items()}, "file")  # fmt: skip
    if disk.free is not None:
        yield _gauge("pubsub_disk_free_bytes", "Space that is left on the disk of the journal.", disk.free)


def topic_families(topics: Iterable[Topic]) -> Iterator[Metric]:
    """The series of single topics. A topic that was created again starts at 0."""
    topics = list(topics)
    yield _counter("pubsub_topic_published_messages", "Messages that the topic has accepted.",
                   {(topic.name,): topic.seq for topic in topics}, "topic")  # fmt: skip
    yield _counter("pubsub_topic_published_bytes", "Bytes of their events, since the start of the server.",
                   {(topic.name,): topic.bytes for topic in topics}, "topic")  # fmt: skip
    yield _gauge("pubsub_topic_subscribers", "Connections that get the events of the topic.",
                 {(topic.name,): topic.subscribers for topic in topics}, "topic")  # fmt: skip


def worker_families(starts: Mapping[int, int], up: Collection[int]) -> Iterator[Metric]:
    """The state of the workers of a server. ``up``: those that have answered."""
    yield _gauge("pubsub_worker_up", "1 if the worker has answered this scrape.",
                 {(str(number),): int(number in up) for number in starts}, "worker")  # fmt: skip
    yield _counter("pubsub_worker_restarts", "Starts of the worker after it had died.",
                   {(str(number),): max(0, count - 1) for number, count in starts.items()}, "worker")  # fmt: skip


def _counter(name: str, meaning: str, values: float | Mapping[Labels, float], *labels: str) -> Metric:
    return _filled(CounterMetricFamily(name, meaning, labels=labels), values)


def _gauge(name: str, meaning: str, values: float | Mapping[Labels, float], *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(name, meaning, labels=labels), values)


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, values: float | Mapping[Labels, float]
) -> CounterMetricFamily | GaugeMetricFamily:
    for labels, value in values.items() if isinstance(values, Mapping) else [((), values)]:
        family.add_metric(labels, value)
    return family


def _histogram(name: str, meaning: str, histogram: Histogram) -> Metric:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
    family = HistogramMetricFamily(name, meaning)
    family.add_metric((), buckets, histogram.sum)
    return family


def _info(name: str, meaning: str, **value: str) -> Metric:
    return InfoMetricFamily(name, meaning, value)
