"""docs/reliability.md: it names existing tests and phases, and leaves out no row that has tests."""

from __future__ import annotations

import re

import soak
from cluster_soak import describe_faults

from tests.harness import REPOSITORY
from tests.test_docs import section, table

SHOWN = table(section("docs/reliability.md", "What has been tried"), "Row", "Tried")
PHASES = {*soak.PHASES, *soak.RESTARTING}
LAST_ROW = 70
TESTS = {
    name
    for path in (REPOSITORY / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
}


def test_each_row_names_what_exists() -> None:
    for row in SHOWN:
        tests, _, phases = row[3].partition("soak: ")
        named = set(re.findall(r"`(\w+)`", tests))
        assert named <= TESTS, row
        assert set(re.findall(r"`(\w+)`", phases)) <= PHASES, row
        assert named or phases, row
        assert all(re.search(rf"_{number}_", name) for number in row[0].split(", ") for name in named), row


def test_no_row_with_tests_is_left_out() -> None:
    shown = {int(number) for row in SHOWN for number in row[0].split(", ")}
    assert {number for name in TESTS for number in rows_of(name)} <= shown


def rows_of(test: str) -> list[int]:
    """Return the row numbers at the start of a name; a number above LAST_ROW means something else."""
    found = re.match(r"test_row_(\d+(?:_(?:and_)?\d+)*)_", test)
    return [number for number in map(int, re.findall(r"\d+", found[1] if found else "")) if 0 < number <= LAST_ROW]


def test_each_phase_is_described() -> None:
    described = {row[0].strip("`") for row in table(section("docs/reliability.md", "The soak"), "Phase")}
    assert described == PHASES


def test_each_fault_of_several_servers_is_described() -> None:
    rows = table(section("docs/reliability.md", "The soak", "Several servers"), "Fault")
    assert {name for row in rows for name in re.findall(r"`([a-z-]+)`", row[0])} == {*describe_faults()} - {"nothing"}
    assert all(describe_faults().values())
