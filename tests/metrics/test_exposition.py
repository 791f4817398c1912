"""The metrics as a scrape sees them: each form is valid, and each value is what has happened."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_plain

from pubsub.http.app_keys import SERVICES
from pubsub.metrics.exposition import TOPICS_AT_ONCE
from pubsub.websocket.ending import Ending
from tests.harness import REPOSITORY, RawClient, Server, eventually, on_one_loop, run_server
from tests.streams import Stream

PROMETHEUS = (  # the header Accept of Prometheus 2.42
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(server: Server, accept: str = "") -> tuple[str, str]:
    async with server.http.get("/metrics", headers={"Accept": accept} if accept else {}) as response:
        assert response.status == 200
        return response.headers["Content-Type"], await response.text()


def read_openmetrics(text: str) -> list[Metric]:
    return list(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def samples_of(families: list[Metric]) -> Samples:
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


async def values(server: Server) -> Samples:
    return samples_of(list(read_plain((await scrape(server))[1])))


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


IMPORT = """
import sys
import pubsub.app
from pubsub.http import metrics

class Watch:
    @staticmethod
    def find_spec(name, *_):
        if name.startswith("prometheus_client"):
            turns.add(sys.getswitchinterval())

turns, usual = set(), sys.getswitchinterval()
sys.meta_path.insert(0, Watch)
assert "prometheus_client" not in sys.modules
metrics.import_exposition()
assert "prometheus_client" in sys.modules
assert turns and max(turns) < usual / 5, turns
assert sys.getswitchinterval() == usual
"""


def find_promtool() -> str:
    """The path of the program; without it the test is skipped, but not in CI."""
    found = shutil.which("promtool")
    if found is None:
        assert os.environ.get("CI") != "true", "needs promtool: apt-get install prometheus"
        pytest.skip("needs promtool: apt-get install prometheus")
    return found


def check(program: str, *command: str, text: str = "") -> tuple[int, str]:
    """Run ``promtool check``; return its status and all that it says."""
    done = subprocess.run([program, "check", *command], input=text, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


async def use_everything(server: Server, directory: Path) -> None:
    """Bring each family of metrics into being."""
    await server.create("orders", "other")
    await server.create("kept", durable=True)
    async with server.client() as client:
        await client.subscribe("orders", filter="payload > 1")
        await client.publish("orders", 2)
        await client.publish("kept", 1)


async def test_both_forms_say_the_same(tmp_path: Path) -> None:
    async with run_server(data_dir=str(tmp_path), metrics_topics=10) as server:
        await use_everything(server, tmp_path)
        plain_type, plain = await scrape(server)
        open_type, text = await scrape(server, PROMETHEUS)
        assert plain_type == "text/plain; version=0.0.4; charset=utf-8"
        assert open_type.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
        assert text.endswith("# EOF\n")
        assert text.count("# EOF") == 1
        first, second = samples_of(list(read_plain(plain))), samples_of(read_openmetrics(text))
        assert first.keys() == second.keys()


async def test_no_family_and_no_sample_comes_twice(tmp_path: Path) -> None:
    async with run_server(data_dir=str(tmp_path), metrics_topics=1000) as server:
        await server.create(*[f"topic.{number}" for number in range(2 * TOPICS_AT_ONCE + 1)])
        await use_everything(server, tmp_path)
        _, text = await scrape(server)
        heads = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
        assert len(heads) == len(set(heads)) == text.count("# HELP ")
        samples = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
        assert len(samples) == len(set(samples))
        shown = re.findall(r'^pubsub_topic_subscribers\{topic="(.*)"\}', text, re.MULTILINE)
        assert shown == [*[f"topic.{number}" for number in range(2 * TOPICS_AT_ONCE + 1)], "orders", "other", "kept"]


@on_one_loop
async def test_promtool_has_no_complaint(tmp_path: Path) -> None:
    program = find_promtool()
    async with run_server(data_dir=str(tmp_path), metrics_topics=10) as server:
        await use_everything(server, tmp_path)
        _, text = await scrape(server)
        assert check(program, "metrics", text=text) == (0, "")


async def test_messages_and_bytes_are_counted() -> None:
    async with run_server() as server, server.client("a") as first, server.client("b") as second:
        await server.create("orders")
        await first.subscribe("orders")
        await second.subscribe("orders")
        await first.publish("orders", "x" * 1000)
        await first.publish("orders", "y" * 1000)
        events = await second.receive_many(2)
        found = await values(server)
        assert value(found, "pubsub_published_messages_total") == 2
        assert 2000 < value(found, "pubsub_published_bytes_total") < 2400
        assert value(found, "pubsub_delivered_messages_total") == 4
        delivered = value(found, "pubsub_delivered_bytes_total")
        assert delivered == 2 * (value(found, "pubsub_published_bytes_total") + len(events) * 4)  # headers of frames
        assert 2000 < value(found, "pubsub_received_bytes_total") < 3000
        assert 100 < value(found, "pubsub_answered_bytes_total") < 1000
        assert value(found, "pubsub_subscribers") == 2
        assert value(found, "pubsub_topics", durable="false") == 1


async def test_connections_are_counted_by_transport_and_ending() -> None:
    async with run_server() as server:
        await server.create("orders")
        stream = await Stream.open(server.port, "/topics/orders/events")
        async with server.client():
            found = await values(server)
            assert value(found, "pubsub_connections", transport="websocket") == 1
            assert value(found, "pubsub_connections", transport="sse") == 1
        (await RawClient.connect(server.port)).send_at_once(b"\x00\x00")  # not masked
        await eventually(lambda: server.connections == 1)
        found = await values(server)
        assert value(found, "pubsub_connections", transport="websocket") == 0
        assert value(found, "pubsub_connections_opened_total", transport="websocket") == 2
        ended = {dict(labels)["ending"]: count for (name, labels), count in found.items()
                 if name == "pubsub_connections_ended_total" and count}  # fmt: skip
        assert ended == {"closed_by_client": 1, "protocol_error": 1}
        labels = {"transport": "websocket", "ending": "protocol_error", "code": "1002"}
        assert value(found, "pubsub_connections_ended_total", **labels) == 1
        stream.client.close()


@on_one_loop
async def test_each_ending_has_a_series_from_the_beginning() -> None:
    async with run_server() as server:
        found = await values(server)
        endings = [dict(labels) for name, labels in found if name == "pubsub_connections_ended_total"]
        assert {each["ending"] for each in endings} == {ending.name.lower() for ending in Ending}
        assert len(endings) == 2 * len(Ending)


async def test_the_queues_of_clients_that_do_not_read_are_measured() -> None:
    async with run_server(subscriber_queue_size=10, send_buffer=4096) as server:
        await server.create("orders")
        stalled = await RawClient.connect(server.port, receive_buffer=4096)
        await stalled.subscribe("orders")
        server.publish_locally("orders", ["x" * 600_000])
        await eventually(lambda: bool(server.app[SERVICES].timers.blocked))
        server.publish_locally("orders", list(range(4)))
        await asyncio.sleep(0)
        found = await values(server)
        assert value(found, "pubsub_lagging_connections") == 1
        assert value(found, "pubsub_queued_messages") == 4
        assert value(found, "pubsub_deepest_queue_messages") == 4
        assert 0 <= value(found, "pubsub_longest_stall_seconds") < 10
        server.publish_locally("orders", list(range(20)))
        await asyncio.sleep(0)
        found = await values(server)
        assert value(found, "pubsub_queued_messages") == 10
        assert value(found, "pubsub_lost_messages_total", reason="overflow") == 14


async def test_the_journal_and_its_disk_are_measured(tmp_path: Path) -> None:
    async with run_server(data_dir=str(tmp_path)) as server, server.client() as client:
        assert not [name for name, _ in await values(server) if "journal" in name or "disk" in name]
        await server.create("kept", durable=True)
        await client.publish("kept", 1)
        found = await values(server)
        assert value(found, "pubsub_journal_commit_seconds_count") == 2
        assert value(found, "pubsub_journal_commit_seconds_sum") > 0
        assert value(found, "pubsub_journal_failing") == value(found, "pubsub_journal_failures_total") == 0
        assert value(found, "pubsub_journal_waiting_bytes") == 0
        assert value(found, "pubsub_journal_size_bytes", file="journal.db") > 0
        assert value(found, "pubsub_journal_size_bytes", file="journal.db-wal") > 0
        assert value(found, "pubsub_disk_free_bytes") > 0
        assert value(found, "pubsub_topics", durable="true") == 1


async def test_wrong_keys_and_requests_over_the_rate_are_counted() -> None:
    async with run_server(api_keys="ops:admin:ops-key", rate_limit_msgs_per_sec=1, rate_limit_burst=2) as server:
        async with server.http.get("/topics", headers={"X-API-Key": "wrong"}) as response:
            assert response.status == 401
        async with server.client("alice") as client:
            answers = [await client.ask({"type": "ping"}) for _ in range(4)]
        assert [answer["type"] for answer in answers] == ["pong", "pong", "error", "error"]
        async with server.http.get("/metrics", headers={"X-API-Key": "ops-key"}) as response:
            found = samples_of(list(read_plain(await response.text())))
        assert value(found, "pubsub_authentication_failures_total") == 1
        assert value(found, "pubsub_rate_limited_requests_total") == 2


async def test_series_of_topics_have_a_limit_and_the_oldest_topics_have_them() -> None:
    async with run_server(metrics_topics=2) as server:
        await server.create("c", "b", "a")
        found = await values(server)
        shown = {dict(labels)["topic"] for name, labels in found if name == "pubsub_topic_subscribers"}
        assert shown == {"b", "c"}
        assert value(found, "pubsub_topics_without_series") == 1
    async with run_server() as server:
        await server.create("a")
        assert not [name for name, _ in await values(server) if name.startswith("pubsub_topic_")]


@pytest.mark.parametrize(
    "accept", ["", "*/*", "text/plain; version=x", "application/openmetrics-text; version=9.x", ","]
)
@on_one_loop
async def test_any_accept_header_is_answered(accept: str) -> None:
    async with run_server() as server:
        content_type, text = await scrape(server, accept)
        assert list((read_openmetrics if "openmetrics" in content_type else read_plain)(text))


def test_the_first_scrape_imports_the_library_and_gives_way_to_the_loop() -> None:
    """A thread may keep the interpreter for 5 ms otherwise, and the event loop waits for so long each time."""
    subprocess.run([sys.executable, "-c", IMPORT], check=True, cwd=REPOSITORY)
