"""The board and the alert rules in deploy/: they ask for metrics that exist, and each alert fires when it should."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.harness import REPOSITORY, on_one_loop, run_server
from tests.metrics.test_exposition import check, find_promtool, scrape, use_everything

BOARD = REPOSITORY / "deploy" / "grafana.json"
ALERTS = REPOSITORY / "deploy" / "alerts.yml"
ALWAYS = {
    "up",  # of Prometheus, for every target
    "pubsub_worker_up",  # of a server with several workers, as the next one
    "pubsub_worker_restarts_total",
}


def panels() -> list[Any]:
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    return list(board["panels"])


def alerts() -> list[str]:
    return re.findall(r"^ +- alert: (\w+)$", ALERTS.read_text(encoding="utf-8"), re.MULTILINE)


def expressions() -> list[str]:
    texts = re.findall(r" expr: ([\s\S]+?)\n +(?:for|labels):", ALERTS.read_text(encoding="utf-8"))
    assert len(texts) == len(alerts())
    return [target["expr"] for panel in panels() for target in panel["targets"]] + texts


async def existing_names(directory: Path) -> set[str]:
    """The names of all series of a server that uses everything."""
    async with run_server(data_dir=str(directory), metrics_topics=10) as server:
        await use_everything(server, directory)
        _, text = await scrape(server)
    return set(re.findall(r"^([a-z_]+)[ {]", text, re.MULTILINE))


@on_one_loop
async def test_board_and_alerts_ask_for_series_that_exist(tmp_path: Path) -> None:
    asked = set(re.findall(r"\b(?:pubsub|process)_\w+|\bup\b", " ".join(expressions())))
    exist = await existing_names(tmp_path)
    assert asked <= exist | ALWAYS
    labels = set(re.findall(r"by \(([\w, ]+)\)", " ".join(expressions())))
    known = {"job", "instance", "le", "reason", "recovered", "transport", "ending", "file", "topic"}
    assert {label.strip() for group in labels for label in group.split(",")} <= known


def test_panels_say_what_they_show_and_do_not_overlap() -> None:
    cells = [
        (column, row)
        for panel in panels()
        for column in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for row in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) < 24
    assert len({panel["id"] for panel in panels()}) == len(panels())
    assert all(panel["description"].endswith(".") and panel["title"] for panel in panels())


def test_promtool_accepts_the_alerts() -> None:
    status, said = check(find_promtool(), "rules", str(ALERTS))
    assert status == 0, said


# Of each alert: the series with which it fires after an hour, in the notation of promtool.
FIRES: dict[str, dict[str, str]] = {
    "PubsubDown": {"up": "0x60"},
    "PubsubJournalFails": {"pubsub_journal_failing": "1x60"},
    "PubsubDiskFills": {"pubsub_disk_free_bytes": "100e9-500e6x60"},
    "PubsubFailsInternally": {'pubsub_connections_ended_total{ending="fault"}': "0x50 1x10"},
    "PubsubWorkerFails": {'pubsub_worker_restarts_total{worker="2"}': "0x50 1x10"},
    "PubsubLosesMessages": {'pubsub_lost_messages_total{reason="overflow"}': "0+10x60"},
    "PubsubResumesFail": {
        'pubsub_resumes_total{recovered="false"}': "0+1x60",
        'pubsub_resumes_total{recovered="true"}': "0+10x60",
    },
    "PubsubLoopLags": {
        'pubsub_event_loop_lag_seconds_bucket{le="0.1"}': "0+500x60",
        'pubsub_event_loop_lag_seconds_bucket{le="0.25"}': "0+600x60",
        'pubsub_event_loop_lag_seconds_bucket{le="+Inf"}': "0+600x60",
    },
    "PubsubUsesItsCore": {"process_cpu_seconds_total": "0+57x60"},
    "PubsubRunsOutOfDescriptors": {"process_open_fds": "900x60", "process_max_fds": "1000x60"},
    "PubsubRefusesCredentials": {"pubsub_authentication_failures_total": "0+120x60"},
}
# A server that is busy and well.
WELL = {
    "up": "1x60",
    "pubsub_journal_failing": "0x60",
    "pubsub_disk_free_bytes": "100e9-1e6x60",
    'pubsub_connections_ended_total{ending="fault"}': "3x60",
    'pubsub_connections_ended_total{ending="closed_by_client"}': "0+1000x60",
    'pubsub_worker_restarts_total{worker="2"}': "1x60",
    'pubsub_worker_up{worker="2"}': "1x60",
    'pubsub_lost_messages_total{reason="disconnected"}': "0+1000x60",
    'pubsub_lost_messages_total{reason="overflow"}': "1000x60",
    'pubsub_resumes_total{recovered="false"}': "0+1x60",
    'pubsub_resumes_total{recovered="true"}': "0+100x60",
    'pubsub_event_loop_lag_seconds_bucket{le="0.1"}': "0+600x60",
    'pubsub_event_loop_lag_seconds_bucket{le="0.25"}': "0+600x60",
    'pubsub_event_loop_lag_seconds_bucket{le="+Inf"}': "0+600x60",
    "process_cpu_seconds_total": "0+30x60",
    "process_open_fds": "100x60",
    "process_max_fds": "1000x60",
    "pubsub_authentication_failures_total": "0+1x60",
}
LABELS = {"job": "pubsub", "instance": "a:8080"}


def with_labels(series: str) -> str:
    name, _, labels = series.partition("{")
    own = ", ".join(f'{label}="{value}"' for label, value in LABELS.items())
    return f"{name}{{{own}, {labels}" if labels else f"{name}{{{own}}}"


def fires(alert: str, series: dict[str, str], directory: Path) -> bool:
    """True if the alert fires after an hour of these series. promtool expects that none does."""
    inputs = [{"series": with_labels(name), "values": values} for name, values in series.items()]
    expected = [{"eval_time": "1h", "alertname": alert, "exp_alerts": []}]
    case = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": inputs, "alert_rule_test": expected}],
    }
    path = directory / f"{alert}.yml"
    path.write_text(json.dumps(case), encoding="utf-8")  # which is YAML too
    done = subprocess.run([find_promtool(), "test", "rules", str(path)], capture_output=True, text=True, timeout=30)
    said = done.stdout + done.stderr
    assert (done.returncode == 0) == ("SUCCESS" in said) == (f'alertname="{alert}"' not in said), said
    return done.returncode != 0


@pytest.mark.parametrize("alert", FIRES)
def test_an_alert_fires_when_it_should_and_not_before(alert: str, tmp_path: Path) -> None:
    assert fires(alert, FIRES[alert], tmp_path)
    assert not fires(alert, WELL, tmp_path)


def test_each_alert_has_its_case() -> None:
    assert alerts() == list(FIRES)
