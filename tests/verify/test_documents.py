"""The checks and flags of ``pubsub verify``, as docs/operation.md has them."""

from __future__ import annotations

from pubsub.verify import make_parser
from pubsub.verify.checks import CHECKS, FURTHER_CHECKS, IDLE_CHECKS
from tests.cli.test_documents import flags_of
from tests.test_docs import names, section, table

TEXT = section("docs/operation.md", "Check a deployment")


def test_checks_are_those_of_the_documentation() -> None:
    told = names(table(TEXT, "Check", "Fails if"))
    assert told == [each.name for each in (*CHECKS, *FURTHER_CHECKS, *IDLE_CHECKS)]


def test_flags_are_those_of_the_documentation() -> None:
    assert {*names(table(TEXT, "Flag", "Default", "Meaning")), "--help"} == flags_of(make_parser())


def test_a_check_needs_earlier_ones() -> None:
    known: list[str] = []
    for check in (*CHECKS, *FURTHER_CHECKS, *IDLE_CHECKS):
        assert set(check.needs) <= set(known)
        known.append(check.name)
