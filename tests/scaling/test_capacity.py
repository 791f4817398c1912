"""The calculation toward 1,000 servers: the document has what it prints, and limits are told where they are passed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.harness import REPOSITORY

DOCUMENT = (REPOSITORY / "docs/scaling.md").read_text(encoding="utf-8")


def calculate(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path("scripts/capacity.py")), *flags]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30)


def plan(servers: int, connections: int, topics: int, messages: int) -> list[str]:
    return [
        *("--servers", str(servers), "--connections", str(connections)),
        *("--topics", str(topics), "--messages", str(messages)),
    ]


def test_the_document_has_the_table() -> None:
    printed = calculate().stdout
    assert printed.count("\n") > 15
    assert printed in DOCUMENT, "put the output of scripts/capacity.py into docs/scaling.md"


def test_the_figures_are_those_of_the_document() -> None:
    """Each figure that was measured stands in the table of sizes and costs."""
    source = (REPOSITORY / "scripts/capacity.py").read_text(encoding="utf-8")
    costs = DOCUMENT.partition("## Sizes and costs")[2].partition("## Toward")[0]
    for name in ("RECORD", "KEPT", "TOPIC_IN_REDIS", "TOPIC_IN_SERVER", "STATE", "PRESENT"):
        (value,) = re.findall(rf"^{name} = (\d+)", source, re.MULTILINE)
        assert re.search(rf"\b{value} bytes", costs), name
    for name in ("APPEND_US", "WRITE_US", "PUSH_US", "RECEIVE_US"):
        (value,) = re.findall(rf"^{name} = ([\d.]+)", source, re.MULTILINE)
        assert re.search(rf"\b{float(value):g}\b", costs), name


def test_limits_that_are_passed_are_bold() -> None:
    small = calculate(*plan(3, 1_000, 100, 100)).stdout
    assert "**" not in small
    large = calculate(*plan(2_000, 1_000_000, 1_000, 400_000)).stdout
    bold = [line.split("|")[1].strip() for line in large.splitlines() if "**" in line]
    assert bold == ["Redis: CPU", "Redis: output", "server: CPU for what others publish"]


def test_a_plan_is_given_whole() -> None:
    wrong = calculate("--servers", "3")
    assert wrong.returncode == 2
    assert "expected --servers, --connections, --topics and --messages together" in wrong.stderr
