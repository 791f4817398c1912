"""The flags and exit statuses of the commands for scripts, as docs/operation.md has them."""

from __future__ import annotations

import argparse
import re

import pytest

from pubsub.cli import presence, pub, sub, topics
from pubsub.cli.statuses import Status
from tests.test_docs import section, table

TEXT = section("docs/operation.md", "Scripts and pipes")
COMMON = {"--help", "--url", "--token", "--api-key", "--ca", "--client"}


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    return {flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")}


@pytest.mark.parametrize(
    ("parser", "column"),
    [
        (pub.make_parser(), "Flag of `pubsub pub TOPIC [JSON]`"),
        (sub.make_parser(), "Flag of `pubsub sub TOPIC…`"),
    ],
)
def test_flags_are_those_of_the_documentation(parser: argparse.ArgumentParser, column: str) -> None:
    told = {row[0].strip("`") for row in table(TEXT, column, "Meaning")}
    assert told | (COMMON & flags_of(parser)) == flags_of(parser)
    assert all(f"`{flag}`" in TEXT for flag in COMMON - {"--help"})


@pytest.mark.parametrize("parser", [topics.make_parser(), presence.make_parser()])
def test_other_commands_have_no_more_flags(parser: argparse.ArgumentParser) -> None:
    assert flags_of(parser) == COMMON - {"--client"} | {"--json"}


def test_exit_statuses_are_those_of_the_documentation() -> None:
    rows = [row[0] for row in table(TEXT, "Exit status", "Meaning")]
    assert rows == [*(str(status.value) for status in Status), "130, 143"]


@pytest.mark.parametrize("command", [pub, sub])
def test_help_explains_the_exit_statuses(command: object) -> None:
    epilog = " ".join(str(vars(command)["EPILOG"]).split())
    told = set(map(int, re.findall(r"[:;,] (\d+) ", epilog)))
    assert told >= {0, 1, 2, 3, 130, 143}
    assert told - {130, 143} <= {status.value for status in Status}
