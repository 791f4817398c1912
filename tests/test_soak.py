"""The soak: its oracle finds broken invariants, and a soak of a few seconds finds none. `make soak` runs a long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from oracle import Broken, Json, Ledger, Record
from verdict import Verdict

from tests.harness import REPOSITORY, clean_environment

IDS = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(1, 9)]


def subscribed(record: Record | None = None, *, seq: int = 0, tolerant: bool = False) -> Ledger:
    ledger = Ledger(record or Record(), tolerant=tolerant)
    ledger.ask({"type": "subscribe", "topic": "a", "request_id": "s"})
    ledger.take({"type": "ack", "request_id": "s", "topic": "a", "epoch": "e", "seq": seq})
    return ledger


def event(seq: int, message_id: str | None = None) -> Json:
    return {"type": "event", "topic": "a", "seq": seq, "message": {"id": message_id or IDS[seq]}}


def gap(first: int, last: int, count: int) -> Json:
    return {"type": "info", "msg": "dropped", "topic": "a", "from_seq": first, "to_seq": last, "count": count}


@pytest.mark.parametrize(
    "told",
    [
        [event(2)],
        [event(1), event(1)],
        [event(1), event(3)],
        [event(1), event(2), event(1)],
        [event(1) | {"topic": "b"}],
        [gap(1, 2, 2)],
        [{"type": "info", "msg": "topic_deleted", "topic": "a"}, event(1)],
        [{"type": "pong", "request_id": "unasked"}],
    ],
    ids=["missing", "twice", "hole", "backwards", "foreign", "lost", "after the end", "unasked"],
)
def test_the_judge_finds(told: list[Json]) -> None:
    ledger = subscribed()
    with pytest.raises(Broken):
        list(map(ledger.take, told))


@pytest.mark.parametrize("told", [gap(2, 3, 2), gap(1, 3, 2)], ids=["not the next", "miscounted"])
def test_the_judge_finds_a_gap_that_is_told_wrongly(told: Json) -> None:
    with pytest.raises(Broken):
        subscribed(tolerant=True).take(told)


def test_the_judge_finds_another_message_in_the_same_place() -> None:
    record = Record()
    first, second = subscribed(record), subscribed(record)
    first.take(event(1, IDS[0]))
    with pytest.raises(Broken):
        second.take(event(1, IDS[1]))


def test_the_judge_finds_what_was_acknowledged_and_never_came() -> None:
    record = Record()
    publisher, subscriber = subscribed(record), subscribed(record)
    publish(publisher, seq=1)
    assert not subscriber.is_complete("a")
    subscriber.take(event(1, IDS[0]))
    assert subscriber.is_complete("a")


def test_the_judge_finds_acknowledgements_out_of_order() -> None:
    publisher = subscribed()
    publish(publisher, seq=2)
    with pytest.raises(Broken):
        publish(publisher, seq=1)


def test_the_judge_finds_a_resume_that_leaves_out_something() -> None:
    ledger = Ledger(Record())
    ledger.ask({"type": "subscribe", "topic": "a", "request_id": "s", "resume": {"a": {"epoch": "e", "seq": 3}}})
    ledger.take({"type": "ack", "request_id": "s", "topic": "a", "epoch": "e", "seq": 6, "recovered": True})
    with pytest.raises(Broken):
        ledger.take(event(5))


def publish(ledger: Ledger, seq: int) -> None:
    ledger.ask({"type": "publish", "topic": "a", "request_id": f"p{seq}", "message": {"id": IDS[0]}})
    ledger.take({"type": "ack", "request_id": f"p{seq}", "topic": "a", "seq": seq})


def test_a_verdict_is_told_in_three_ways() -> None:
    verdict = Verdict({"minutes": 1})
    verdict.figures["quiet"] = {"events": 12345, "p99_ms": 1.25}
    verdict.check("quiet", "nothing lost", True)
    verdict.check("quiet", "nothing lost", True)
    assert verdict.holds
    verdict.check("storm", "nothing doubled", False, "seq 7")
    verdict.check("storm", "nothing doubled", True, "seq 8")
    assert not verdict.holds
    assert json.loads(verdict.as_json())["ok"] is False
    assert "events 12,345, p99 ms 1.2" in verdict.as_table()
    assert "| storm | nothing doubled, 2 times | **broken** | seq 7 |" in verdict.as_markdown()


@pytest.mark.timeout(120)
def test_row_39_40_and_55_a_short_soak_breaks_nothing(tmp_path: Path) -> None:
    """Real sockets and processes: good and bad clients, wanderers, and restarts with and without tokens."""
    command = [sys.executable, "scripts/soak/soak.py", "--minutes", "0.1", "--untimed", "--seed", "8"]
    command += ["--markdown", str(tmp_path / "figures.md"), "--rounds", "2"]
    command += ["--phases", "quiet", "wander", "storm", "kill"]
    done = subprocess.run(command, cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["ok"] is True
    assert result["phases"]["storm"]["restarts"] >= 1
    assert result["phases"]["kill"]["publishes_cut_off"] > 0
    assert result["phases"]["all"]["deliveries"] > 100
    assert (tmp_path / "figures.md").read_text().startswith("Run: minutes 0.1")
