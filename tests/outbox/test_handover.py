"""Rows of a real PostgreSQL in the topics of a real server: all that are committed, once, in order, and no others."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.harness import ForkedServer, free_port, new_id
from tests.outbox.postgres import Postgres
from tests.outbox.running import FLAGS, Place, one, publish, wait_until


@pytest.fixture
def running(place: Place) -> Iterator[Place]:
    """An outbox with a worker, and a topic."""
    place.create()
    worker = place.run_worker()
    yield place
    assert worker.stop() == 0, worker.log.read_text()


def test_transactions_that_commit_out_of_order(running: Place) -> None:
    with running.transaction() as first:
        publish(first, running.topic, "first call")
        running.publish("second call")
        running.publish("third call")
        wait_until(lambda: running.payloads() == ["second call", "third call"])
        publish(first, running.topic, "fourth call")
    running.wait_until_empty()
    assert running.payloads() == ["second call", "third call", "first call", "fourth call"]


def test_transaction_comes_after_the_one_that_it_has_seen(running: Place) -> None:
    """Ids of transactions tell nothing of that: here the later one has the lowest."""
    with running.transaction() as other:
        with running.transaction() as shipping:
            for each in (shipping, other):
                one(each, "SELECT pg_current_xact_id()::text")
            running.publish("paid")
            publish(shipping, running.topic, "shipped")
        wait_until(lambda: len(running.payloads()) == 2)
        assert running.payloads() == ["paid", "shipped"]


def test_rolled_back_rows_never_come(running: Place) -> None:
    with running.connect() as connection:
        with contextlib.suppress(ZeroDivisionError), connection.transaction():
            publish(connection, running.topic, "rolled back")
            raise ZeroDivisionError
        with connection.transaction():
            publish(connection, running.topic, "committed")
            with contextlib.suppress(ZeroDivisionError), connection.transaction():
                publish(connection, running.topic, "of a savepoint that was rolled back")
                raise ZeroDivisionError
        running.wait_until_empty()
    assert running.payloads() == ["committed"]


def test_id_makes_a_message_unique(running: Place) -> None:
    id = new_id()
    with running.transaction() as connection:
        for _ in range(3):
            connection.execute("SELECT pubsub_publish(%s, %s, '1')", (running.topic, id))
        connection.execute("SELECT pubsub_publish(%s, '2')", (running.topic,))
    running.wait_until_empty()
    assert running.payloads() == [1, 2]
    assert running.events()[0]["message"]["id"] == id


def test_time_to_live_counts_from_the_call(place: Place) -> None:
    place.create()
    place.publish("too late", ttl_sec=0.001)
    place.publish("in time", ttl_sec=500)
    place.publish("without")
    wait_until(lambda: one_of(place, "SELECT bool_or(expires < clock_timestamp()) FROM pubsub_outbox"))
    place.run_worker()
    place.wait_until_empty()
    assert place.payloads() == ["in time", "without"]


def one_of(place: Place, statement: str) -> Any:
    with place.connect() as connection:
        return one(connection, statement)


HOSTILE = [
    '"\\u2028\\u0007 \\" \\\\ </script> \\ud83d\\ude00 \u00e9"',
    "[" * 300 + "]" * 300,
    "1" + "0" * 400,
    "-0.1e-300",
    "123456789012345678901234567890.5",
    '{"__proto__":{"":null},"\u202e":[]}',
    "null",
    '"' + "x" * 900_000 + '"',
]


def test_hostile_payloads_come_as_the_database_has_them_or_stay_with_an_error(running: Place) -> None:
    with running.transaction() as connection:
        for text in HOSTILE:
            connection.execute("SELECT pubsub_publish(%s, %s::jsonb)", (running.topic, text))
    running.wait_until_empty()
    with running.connect() as connection:
        refused = {
            text for (text,) in connection.execute("SELECT payload::text FROM pubsub_outbox WHERE error IS NOT NULL")
        }
        sent = [one(connection, "SELECT %s::jsonb::text", text) for text in HOSTILE]
    expected = [json.loads(text) for text in sent if text not in refused]
    assert running.payloads() == expected
    assert len(expected) + len(refused) == len(HOSTILE)


def test_refused_row_stays_with_its_error_and_can_be_sent_again(running: Place) -> None:
    large = "x" * 3_000_000
    with running.transaction() as connection:
        for payload in ("before", large, "after"):
            publish(connection, running.topic, payload)
    running.wait_until_empty()
    assert running.payloads() == ["before", "after"]
    with running.connect() as connection:
        assert "1048576" in one(connection, "SELECT error FROM pubsub_outbox")
        connection.execute("UPDATE pubsub_outbox SET payload = '\"small\"', error = NULL")
    running.wait_until_empty()
    assert running.payloads() == ["before", "after", "small"]


def test_rows_that_the_function_has_not_inserted(running: Place) -> None:
    with running.connect() as connection:
        for topic in ("", "..", "a/b", running.topic):
            statement = "INSERT INTO pubsub_outbox (topic, id, payload) VALUES (%s, gen_random_uuid(), '1')"
            connection.execute(statement, (topic,))
        running.wait_until_empty()
        assert one(connection, "SELECT count(*) FROM pubsub_outbox WHERE starts_with(error, 'topic: expected')") == 3
    assert running.payloads() == [1]


def test_topic_that_does_not_exist_waits_and_holds_up_no_other(running: Place) -> None:
    later = f"{running.schema}.later"
    for number in range(3):
        running.publish(number, later)
        running.publish(number)
    wait_until(lambda: running.payloads() == [0, 1, 2])
    wait_until(lambda: running.waiting() == 3)  # what is published is deleted a moment later
    running.create(later)
    running.wait_until_empty()
    assert running.payloads(later) == [0, 1, 2]


def test_server_that_is_away_and_comes_later(place: Place, postgres: Postgres) -> None:
    port = free_port()
    place.url = f"http://127.0.0.1:{port}"
    worker = place.run_worker()
    place.publish(1)
    worker.wait_for("Server takes nothing: cannot reach")
    with ForkedServer(*FLAGS, "--port", str(port)):
        place.create()
        place.wait_until_empty()
        assert place.payloads() == [1]
        worker.wait_for("Server takes messages again")


def test_poll_finds_rows_without_a_notification(place: Place) -> None:
    place.create()
    worker = place.run_worker("--poll", "0.05")
    worker.wait_for("Outbox taken")
    with place.connect() as connection:
        connection.execute("SET pubsub.notify = off")
        publish(connection, place.topic, 1)
    place.wait_until_empty()
    with place.connect() as connection:
        connection.execute("LISTEN pubsub_outbox")
        connection.execute("SET pubsub.notify = off")
        publish(connection, place.topic, 2)
        assert not list(connection.notifies(timeout=0))


def test_notification_wakes_the_worker(place: Place) -> None:
    place.create()
    worker = place.run_worker("--poll", "3600")
    worker.wait_for("Outbox taken")
    for number in range(20):
        place.publish(number)
        place.wait_until_empty()
    assert place.payloads() == list(range(20))


def test_topic_without_dedup_is_warned_of_once(place: Place) -> None:
    place.create(history=10)
    worker = place.run_worker()
    for number in range(3):
        place.publish(number)
        place.wait_until_empty()
    assert worker.stop() == 0
    assert worker.log.read_text().count("Topic without dedup_sec") == 1


def test_function_refuses_what_no_server_would_take(place: Place) -> None:
    with place.connect() as connection:
        for topic in ("", "a..b", "a b", "a\nb", "ä", "x" * 256, "a.*"):
            with pytest.raises(psycopg.errors.InvalidParameterValue, match="topic: expected"):
                publish(connection, topic, 1)
        for ttl_sec in (0, -1, float("-inf")):
            with pytest.raises(psycopg.errors.InvalidParameterValue, match="ttl_sec: expected"):
                publish(connection, "a", 1, ttl_sec=ttl_sec)
        for statement in ("SELECT pubsub_publish(NULL, '1')", "SELECT pubsub_publish('a', NULL)"):
            with pytest.raises(psycopg.errors.NotNullViolation):
                connection.execute(statement)
    assert place.waiting() == 0
