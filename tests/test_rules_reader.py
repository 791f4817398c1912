"""TOPIC_RULES_FILE: what it may have, and a line for each mistake that stops the start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pubsub.protocol.answers import TopicRule
from pubsub.protocol.requests import TopicOptions
from pubsub.rules_reader import MAX_BYTES, MAX_MISTAKES, MAX_RULES, RulesError, parse_rules, read_rules
from pubsub.settings_reader import find_mistakes
from tests.harness import REPOSITORY, clean_environment, make_settings

OPTIONS = ", ".join(TopicOptions.__struct_fields__)


def mistakes_of(text: str | bytes) -> list[str]:
    with pytest.raises(RulesError) as error:
        parse_rules(text if isinstance(text, bytes) else text.encode())
    return error.value.mistakes


def test_a_rule_has_what_the_file_says() -> None:
    text = (
        '[{"pattern":"room.*","create":true,"delete_idle_sec":3600,"options":{"history":50,"durable":true}},'
        '{"pattern":"a.>","delete_idle_sec":0.5},{"pattern":"a"}]'
    )
    assert parse_rules(text.encode()) == [
        TopicRule(
            pattern="room.*", create=True, delete_idle_sec=3600, options={"history": 50, "durable": True}
        ),
        TopicRule(pattern="a.>", delete_idle_sec=0.5),
        TopicRule(pattern="a"),
    ]  # fmt: skip
    assert parse_rules(b" [ ] ") == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected a JSON list of rules, got no JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[{]", "expected a JSON list of rules, got no JSON: "
                "Expecting property name enclosed in double quotes: line 1 column 3 (char 2)"),
        ("{}", "expected a JSON list of rules, got a JSON object"),
        ("true", "expected a JSON list of rules, got true"),
        ("[" * 100_000, "expected a JSON list of rules, got one that is nested too deep"),
        (b'["\xff"]', "expected UTF-8, got another byte at 2"),
        (b" " * (MAX_BYTES + 1), f"expected at most {MAX_BYTES} bytes"),
        (json.dumps([{}] * (MAX_RULES + 1)), f"expected at most {MAX_RULES} rules, got {MAX_RULES + 1}"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_one_mistake(text: str | bytes, told: str) -> None:
    assert mistakes_of(text) == [told]


PATTERN = (
    "pattern: expected a pattern with * for a whole segment, and > only as the last one, in place of the segments "
    "of a name, got "
)


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("5", ": expected a JSON object, got 5"),
        ("[1]", ": expected a JSON object, got a list"),
        ("{}", ".pattern: required, but missing"),
        ('{"pattern":null}', ".pattern: expected a string, got null"),
        ('{"pattern":""}', f".{PATTERN}''"),
        ('{"pattern":"a.>.b"}', f".{PATTERN}'a.>.b'"),
        ('{"pattern":"room*"}', f".{PATTERN}'room*'"),
        ('{"pattern":"a b"}', f".{PATTERN}'a b'"),
        ('{"pattern":"\\ud800"}', f".{PATTERN}'\\ud800'"),
        ('{"pattern":"a","create":"yes"}', ".create: expected a boolean, got 'yes'"),
        ('{"pattern":"a","create":1}', ".create: expected a boolean, got 1"),
        ('{"pattern":"a","delete_idle_sec":0}', ".delete_idle_sec: expected a number > 0.0, got 0"),
        ('{"pattern":"a","delete_idle_sec":-1}', ".delete_idle_sec: expected a number > 0.0, got -1"),
        ('{"pattern":"a","delete_idle_sec":null}', ".delete_idle_sec: expected a number, got null"),
        ('{"pattern":"a","delete_idle_sec":true}', ".delete_idle_sec: expected a number, got true"),
        ('{"pattern":"a","delete_idle_sec":NaN}', ".delete_idle_sec: expected a number, got 'NaN'"),
        ('{"pattern":"a","delete_idle_sec":1e999}', ".delete_idle_sec: expected a number, got '1e999'"),
        ('{"pattern":"a","delete_idle_sec":400000000}',
         ".delete_idle_sec: expected a number <= 315576000.0, got 400000000"),
        ('{"pattern":"a","idle":1}',
         ".idle: unknown here, expected one of pattern, create, delete_idle_sec, options"),
        ('{"pattern":"a","a\\nb":1}',
         ".'a\\nb': unknown here, expected one of pattern, create, delete_idle_sec, options"),
        ('{"pattern":"a","options":[]}', ".options: expected a JSON object, got []"),
        ('{"pattern":"a","options":null}', ".options: expected a JSON object, got null"),
        ('{"pattern":"a","options":{"name":"b"}}', f".options.name: unknown here, expected one of {OPTIONS}"),
        ('{"pattern":"a","options":{"history":-1}}', ".options.history: expected a whole number >= 0, got -1"),
        ('{"pattern":"a","options":{"history":1.5}}', ".options.history: expected a whole number, got 1.5"),
        ('{"pattern":"a","options":{"history":1000001}}',
         ".options.history: expected at most 1000000 of a topic that is not durable, got 1000001"),
        ('{"pattern":"a","options":{"ttl_sec":1e999}}', ".options.ttl_sec: expected a number, got '1e999'"),
        ('{"pattern":"a","options":{"durable":null}}', ".options.durable: expected a boolean, got null"),
        ('{"pattern":"a","options":{"overflow":"block"}}',
         ".options.overflow: expected one of drop_oldest, drop_newest, latest, disconnect, got 'block'"),
        ('{"pattern":"a","options":{"overflow":"\\ud800"}}',
         ".options.overflow: expected text that can be UTF-8, got '\\ud800'"),
        ('{"pattern":"a","create":true,"create":true}', ".create: expected once, got twice"),
        ('{"pattern":"a","options":{"history":1,"history":2}}', ".options.history: expected once, got twice"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_place_what_was_expected_and_what_came(rule: str, told: str) -> None:
    assert mistakes_of(f'[{{"pattern":"first"}},{rule}]') == [f"rules[1]{told}"]


def test_the_second_rule_with_a_pattern_would_never_count() -> None:
    text = '[{"pattern":"a.*"},{"pattern":"a.>"},{"pattern":"a.*","create":true}]'
    assert mistakes_of(text) == ["rules[2].pattern: expected another one than in rules[0], got 'a.*'"]


def test_each_mistake_is_told_and_a_hundred_of_them_at_most() -> None:
    text = '[{"create":1,"colour":2},{"pattern":">.a","options":{"history":"x","ttl_sec":0}}]'
    assert [line.partition(":")[0] for line in mistakes_of(text)] == [
        "rules[0].pattern",
        "rules[0].create",
        "rules[0].colour",
        "rules[1].pattern",
        "rules[1].options.history",
        "rules[1].options.ttl_sec",
    ]
    told = mistakes_of(json.dumps([None] * (MAX_MISTAKES + 2)))
    assert len(told) == MAX_MISTAKES + 1
    assert told[-1] == "2 more mistakes"


def test_every_option_of_a_topic_can_be_in_a_rule() -> None:
    """Also one that is added later: the reader takes the fields from TopicOptions."""
    for name in TopicOptions.__struct_fields__:
        assert mistakes_of(json.dumps([{"pattern": "a", "options": {name: {}}}]))[0].startswith(
            f"rules[0].options.{name}: expected "
        )


def test_the_file_is_read_up_to_the_limit() -> None:
    with pytest.raises(RulesError, match="at most"):
        read_rules("/dev/zero")
    with pytest.raises(OSError, match="Is a directory"):
        read_rules("/")


def test_the_setting_names_the_file_and_each_mistake(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    settings = make_settings(topic_rules_file=str(file))
    assert find_mistakes(settings) == [
        f"TOPIC_RULES_FILE: got {str(file)!r}, [Errno 2] No such file or directory: {str(file)!r}"
    ]
    file.write_text('[{"pattern":"a"},{"pattern":"b","create":1,"x":2}]')
    assert find_mistakes(settings) == [
        f"TOPIC_RULES_FILE: got {str(file)!r}, rules[1].create: expected a boolean, got 1",
        f"TOPIC_RULES_FILE: got {str(file)!r}, rules[1].x: unknown here, "
        "expected one of pattern, create, delete_idle_sec, options",
    ]
    file.write_text('[{"pattern":"a"}]')
    assert find_mistakes(settings) == []


def serve(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pubsub", "serve"],
        env=clean_environment() | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_a_wrong_file_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    rules: list[Any] = [{"pattern": "a..b"}, {"pattern": "a", "create": "yes"}]
    file.write_text(json.dumps(rules))
    ended = serve(TOPIC_RULES_FILE=str(file), PORT="x")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)  # the settings come first
    ended = serve(TOPIC_RULES_FILE=str(file))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert [line.split(", ", 1)[1].partition(":")[0] for line in ended.stderr.splitlines()] == [
        "rules[0].pattern",
        "rules[1].create",
    ]
