"""The families, compared with their documentation."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from pubsub.websocket.ending import Ending
from tests.harness import on_one_loop, run_server
from tests.metrics.test_deploy import alerts
from tests.metrics.test_exposition import scrape, use_everything
from tests.test_docs import section, table

PARTS = ("Messages", "Connections", "Topics and filters", "Journal", "Process")


def told() -> dict[str, str]:
    """The type of each metric in the documentation."""
    rows = [row for part in PARTS for row in table(section("docs/operation.md", "Metrics", part), "Metric", "Type")]
    return {name: kind for names, kind, _ in rows for name in re.findall(r"`(\w+)`", names)}


@on_one_loop
async def test_each_metric_is_explained(tmp_path: Path) -> None:
    async with run_server(data_dir=str(tmp_path), metrics_topics=10) as server:
        await use_everything(server, tmp_path)
        _, text = await scrape(server)
    families = list(text_string_to_metric_families(text))
    assert told() == {each.name + "_total" * (each.type == "counter"): each.type for each in families}
    assert all(each.documentation.endswith(".") for each in families if each.name.startswith("pubsub"))


def test_each_ending_is_explained() -> None:
    rows = table(section("docs/operation.md", "Metrics", "Connections"), "`ending`", "Meaning")
    assert {name for names, _ in rows for name in re.findall(r"`(\w+)`", names)} == {
        each.name.lower() for each in Ending
    }


def test_each_alert_is_explained() -> None:
    rows = table(section("docs/operation.md", "Metrics", "Alerts"), "Alert", "Meaning", "What to do")
    assert [name.strip("`") for name, *_ in rows] == alerts()
