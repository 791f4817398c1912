"""Flags that several commands have."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from pubsub.client import flags
from pubsub.client.flags import add_server_flags

ID = "550e8400-e29b-41d4-a716-446655440000"


def parse(*arguments: str, **environment: str) -> argparse.Namespace:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        parser = argparse.ArgumentParser()
        add_server_flags(parser)
        return parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("arguments", "environment", "url"),
    [
        ([], {}, "http://127.0.0.1:8080"),
        ([], {"PUBSUB_URL": ""}, "http://127.0.0.1:8080"),
        ([], {"PUBSUB_URL": "wss://events.example.com/ws"}, "https://events.example.com"),
        (["--url", "http://a:1"], {"PUBSUB_URL": "http://b"}, "http://a:1"),
    ],
)
def test_server_is_that_of_the_flag_or_of_the_environment(
    arguments: list[str], environment: dict[str, str], url: str
) -> None:
    assert str(parse(*arguments, **environment).url).rstrip("/") == url


def test_url_in_the_environment_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(PUBSUB_URL="localhost")
    assert "argument --url: the URL must look like http://127.0.0.1:8080" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (flags.topic, "orders.eu", "orders.eu"),
        (flags.pattern, "orders.*", "orders.*"),
        (flags.message_id, ID, ID),
        (flags.whole_number(0, 5), "5", 5),
        (flags.seconds(), "0.5", 0.5),
        (flags.json_object, '{"least":100}', {"least": 100}),
    ],
)
def test_values(read: Any, text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text", "told"),
    [
        (flags.topic, "orders.*", "the name of a topic: expected 1 to 255 of ASCII letters"),
        (flags.topic, "", "the name of a topic: expected"),
        (flags.pattern, "orders.*x", "the name of a topic, or a pattern: expected a pattern with"),
        (flags.message_id, "5", "the id of a message: expected a UUID (8-4-4-4-12 hex digits), got '5'"),
        (flags.whole_number(1, 5000), "0", "got '0', expected a whole number from 1 to 5,000"),
        (flags.whole_number(1, 5000), "٣", "expected a whole number"),
        (flags.whole_number(1, 5000), "1" * 5000, "expected a whole number"),
        (flags.seconds(10), "10.1", "got '10.1', expected seconds above 0 and up to 10"),
        (flags.seconds(10), "nan", "expected seconds"),
        (flags.seconds(10), "soon", "expected seconds"),
        (flags.json_object, "[1]", 'expected a JSON object as in {"least":100}'),
        (flags.json_object, "{", "expected a JSON object: "),
        (flags.json_object, "[" * 100_000, "expected a JSON object: "),
    ],
)
def test_other_values_are_explained(read: Any, text: str, told: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        read(text)
    assert told in str(refused.value)
    assert len(str(refused.value)) < 300
