"""Section 8 of the contract: defaults, sources of a setting and their order, and errors for wrong values."""

from __future__ import annotations

import logging
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from pubsub.settings import Settings
from pubsub.settings_reader import find_mistakes, read_settings
from pubsub.system.logs import LEVELS
from tests.harness import REPOSITORY, clean_environment

# The rows of the contract's table that are implemented.
DEFAULTS: dict[str, Any] = {
    "ENV_FILE": ".env",
    "HOST": "0.0.0.0",
    "PORT": 8080,
    "WORKERS": 1,
    "SOCKET_MODE": "0660",
    "MODE": "release",
    "LOG_FORMAT": "text",
    "RING_BUFFER_SIZE": 100,
    "SUBSCRIBER_QUEUE_SIZE": 100,
    "PING_PERIOD_SEC": 30,
    "PONG_WAIT_SEC": 60,
    "WRITE_WAIT_SEC": 10,
    "READ_TIMEOUT_SEC": 15,
    "WRITE_TIMEOUT_SEC": 15,
    "IDLE_TIMEOUT_SEC": 60,
    "SHUTDOWN_TIMEOUT_SEC": 10,
    "DRAIN_SEC": 0,
    "RECONNECT_SPREAD_SEC": 5,
    "MAX_MESSAGE_BYTES": 1_048_576,
    "COMPRESSION": "off",
    "COMPRESSION_MIN_BYTES": 256,
    "MAX_CONNECTIONS": 0,
    "MAX_CONNECTIONS_PER_CLIENT": 0,
    "MAX_SUBSCRIPTIONS_PER_CONNECTION": 0,
    "MAX_TOPICS": 0,
    "MAX_FILTERS_PER_TOPIC": 256,
    "DEAD_LETTERS_PER_SEC": 100,
    "RATE_LIMIT_MSGS_PER_SEC": 0,
    "RATE_LIMIT_BURST": 0,
    "METRICS_TOPICS": 0,
    "TRACE_KEEP_SEC": 600,
    "TOPIC_RULES_FILE": "",
    "DATA_DIR": "./data",
    "JOURNAL_URL": "",
    "JOURNAL_WAIT_SEC": 5,
    "API_KEYS": "",
    "JWT_SECRET": "",
    "JWT_PUBLIC_KEY_FILE": "",
    "JWT_JWKS_URL": "",
    "JWT_ALGORITHMS": "",
    "JWT_AUDIENCE": "",
    "JWT_ISSUER": "",
    "AUTH_WAIT_SEC": 5,
    "ALLOWED_ORIGINS": "",
    "TRUSTED_PROXIES": "",
    "TLS_CERT_FILE": "",
    "TLS_KEY_FILE": "",
}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty directory, so that only the test's .env is read."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def serve(*flags: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``python -m pubsub serve``, which is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "pubsub", "serve", *flags],
        env=clean_environment() | {"PYTHONPATH": str(REPOSITORY)} | (environment or {}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_defaults_are_the_contracts() -> None:
    settings = asdict(read_settings([]))
    assert {name: settings[name.lower()] for name in DEFAULTS} == DEFAULTS
    assert read_settings([]).least_level == "info"


def test_there_is_no_setting_without_a_row() -> None:
    assert {name.upper() for name in asdict(read_settings([]))} == {*DEFAULTS, "LOG_LEVEL"}


@pytest.mark.parametrize(
    ("environment", "level"),
    [
        ({"MODE": "debug"}, "debug"),
        ({"MODE": "release"}, "info"),
        ({"GIN_MODE": "debug"}, "debug"),
        ({"MODE": "debug", "LOG_LEVEL": "error"}, "error"),
        ({"LOG_LEVEL": "warn"}, "warn"),
        ({"LOG_LEVEL": "WARNING"}, "warning"),
        ({"LOG_LEVEL": " Critical "}, "critical"),
    ],
)
def test_the_log_level_follows_the_mode(
    environment: dict[str, str], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert read_settings([]).least_level == level


OTHERS = {
    "DATA_DIR": "/var/lib/pubsub",
    "JOURNAL_URL": "rediss://engine.example.com:6380",
    "JOURNAL_WAIT_SEC": "0.75",
    "HOST": "::1",
    "PORT": "9000",
    "WORKERS": "4",
    "SOCKET_MODE": "0666",
    "MODE": "debug",
    "LOG_LEVEL": "warn",
    "LOG_FORMAT": "json",
    "RING_BUFFER_SIZE": "0",
    "SUBSCRIBER_QUEUE_SIZE": "7",
    "PING_PERIOD_SEC": "0.5",
    "PONG_WAIT_SEC": "1.5",
    "WRITE_WAIT_SEC": "0.25",
    "READ_TIMEOUT_SEC": "2.5",
    "WRITE_TIMEOUT_SEC": "3",
    "IDLE_TIMEOUT_SEC": "4",
    "SHUTDOWN_TIMEOUT_SEC": "5",
    "DRAIN_SEC": "6",
    "RECONNECT_SPREAD_SEC": "0",
    "MAX_MESSAGE_BYTES": "65536",
    "COMPRESSION": "on",
    "COMPRESSION_MIN_BYTES": "1000",
    "MAX_CONNECTIONS": "1",
    "MAX_CONNECTIONS_PER_CLIENT": "2",
    "MAX_SUBSCRIPTIONS_PER_CONNECTION": "3",
    "MAX_TOPICS": "4",
    "MAX_FILTERS_PER_TOPIC": "7",
    "DEAD_LETTERS_PER_SEC": "5",
    "RATE_LIMIT_MSGS_PER_SEC": "0.5",
    "RATE_LIMIT_BURST": "6",
    "METRICS_TOPICS": "8",
    "TRACE_KEEP_SEC": "0.5",
    "API_KEYS": "ops:admin:k1,shop:publish:k2",
    "JWT_SECRET": "a secret of more than thirty-two bytes",
    "JWT_JWKS_URL": "https://login.example.com/jwks",
    "JWT_ALGORITHMS": "HS256,EdDSA",
    "JWT_AUDIENCE": "pubsub",
    "JWT_ISSUER": "https://login.example.com/",
    "AUTH_WAIT_SEC": "0.5",
    "ALLOWED_ORIGINS": "https://a.example,http://b:8080",
    "TRUSTED_PROXIES": "127.0.0.1,10.0.0.0/8,unix",
}
# They name files that must exist: below, tests/test_access_settings.py, tests/test_rules_reader.py.
FILES = {"ENV_FILE", "TOPIC_RULES_FILE", "JWT_PUBLIC_KEY_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE"}


def as_written(settings: Settings, name: str) -> str:
    value = asdict(settings)[name.lower()]
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def test_the_table_below_covers_every_setting() -> None:
    assert {name.lower() for name in OTHERS.keys() | FILES} == set(asdict(Settings()))


def dashed(name: str) -> str:
    return f"--{name.lower().replace('_', '-')}"


SPELLINGS: dict[str, Callable[[str, str], list[str]]] = {
    "dashes": lambda name, value: [dashed(name), value],
    "dashes=": lambda name, value: [f"{dashed(name)}={value}"],
    "underscores": lambda name, value: [f"--{name.lower()}", value],
    "underscores=": lambda name, value: [f"--{name.lower()}={value}"],
}


@pytest.mark.parametrize("place", [*SPELLINGS, "file", "environment"])
def test_each_setting_is_read_from_each_place(place: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags: list[str] = []
    if place == "file":
        lines = "".join(f"{name}={value}\n" for name, value in OTHERS.items())
        (directory / ".env").write_text(f"# a comment\nUNKNOWN=1\n{lines}")
    elif place == "environment":
        for name, value in OTHERS.items():
            monkeypatch.setenv(name, value)
    else:
        flags = [flag for name, value in OTHERS.items() for flag in SPELLINGS[place](name, value)]
    settings = read_settings(flags)
    assert {name: as_written(settings, name) for name in OTHERS} == OTHERS


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / ".env").write_text("PORT=1001\nRING_BUFFER_SIZE=1001\nSUBSCRIBER_QUEUE_SIZE=1001\n")
    monkeypatch.setenv("PORT", "1002")
    monkeypatch.setenv("RING_BUFFER_SIZE", "1002")
    settings = read_settings(["--port", "1003"])
    assert (settings.port, settings.ring_buffer_size, settings.subscriber_queue_size) == (1003, 1002, 1001)


def test_an_empty_value_is_none(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / ".env").write_text("RING_BUFFER_SIZE=\n")
    monkeypatch.setenv("PORT", "")
    settings = read_settings([])
    assert (settings.port, settings.ring_buffer_size) == (8080, 100)


@pytest.mark.parametrize("place", ["environment", "file"])
def test_gin_mode_is_the_mode(place: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if place == "file":
        (directory / ".env").write_text("GIN_MODE=debug\n")
    else:
        monkeypatch.setenv("GIN_MODE", "debug")
    assert read_settings([]).mode == "debug"
    assert read_settings(["--mode", "release"]).mode == "release"


CHOICES = {
    "MODE": ["release", "debug"],
    "LOG_LEVEL": ["debug", "info", "warning", "warn", "error", "critical"],
    "LOG_FORMAT": ["text", "json"],
    "COMPRESSION": ["off", "on"],
}


def test_the_table_above_has_every_setting_with_choices() -> None:
    assert set(CHOICES) == {name.upper() for name, kind in get_type_hints(Settings).items() if get_args(kind)}


@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title, lambda value: f" {value} "])
def test_a_choice_is_read_in_any_case(
    spell: Callable[[str], str], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(max(map(len, CHOICES.values()))):
        chosen = {name: choices[number % len(choices)] for name, choices in CHOICES.items()}
        spelled = {name: spell(choice) for name, choice in chosen.items()}
        assert choices_of(read_settings([f"--{name.lower()}={value}" for name, value in spelled.items()])) == chosen
        (directory / ".env").write_text("".join(f"{name}={value}\n" for name, value in spelled.items()))
        assert choices_of(read_settings([])) == chosen
        (directory / ".env").unlink()
        with monkeypatch.context() as environment:
            for name, value in spelled.items():
                environment.setenv(name, value)
            assert choices_of(read_settings([])) == chosen


def choices_of(settings: Settings) -> dict[str, str]:
    return {name: as_written(settings, name) for name in CHOICES}


def test_one_worker_is_all_where_no_connection_can_be_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("socket.send_fds")
    assert find_mistakes(Settings(workers=1)) == []
    (mistake,) = find_mistakes(Settings(workers=2))
    assert mistake.startswith("WORKERS: got 2, expected 1: ")


def test_each_log_level_is_one_of_pythons() -> None:
    python = {choice: getattr(logging, choice.upper()) for choice in CHOICES["LOG_LEVEL"]}
    assert python == LEVELS


NONSENSE = {
    "PORT": ["x", "-1", "65536", "80.5", "1e3", " ", "8080 8081"],
    "HOST": ["unix:", "unix:@", f"unix:/{'x' * 107}", f"unix:@{'x' * 108}"],
    "WORKERS": ["0", "-1", "two", "1.5", "257"],
    "SOCKET_MODE": ["rw-rw----", "0888", "660 ", "1777", "0o660", "66", "-660"],
    "MODE": ["production", "1"],
    "LOG_LEVEL": ["loud", "20", "notset", "fatal"],
    "LOG_FORMAT": ["xml"],
    "RING_BUFFER_SIZE": ["-1", "1.5", "many"],
    "SUBSCRIBER_QUEUE_SIZE": ["0", "-1", "x"],
    **{
        name: ["0", "-1", "x", "nan", "inf", "10s"]
        for name in OTHERS
        if name.endswith("_SEC") and name not in ("DRAIN_SEC", "RECONNECT_SPREAD_SEC", "RATE_LIMIT_MSGS_PER_SEC")
    },
    "DRAIN_SEC": ["-1", "x", "nan", "inf"],
    "RECONNECT_SPREAD_SEC": ["-0.1", "x", "nan"],
    "MAX_MESSAGE_BYTES": ["0", "-1", "1MB", "x"],
    "MAX_CONNECTIONS": ["-1", "x", "1.5"],
    "MAX_TOPICS": ["-1", "x"],
    "MAX_FILTERS_PER_TOPIC": ["-1", "x"],
    "RATE_LIMIT_MSGS_PER_SEC": ["-1", "x", "nan", "inf"],
    "RATE_LIMIT_BURST": ["-1", "x", "0.5"],
    "METRICS_TOPICS": ["-1", "10001", "x"],
    "TRACE_KEEP_SEC": ["-1", "86401", "x"],
    "GIN_MODE": ["test", "x"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in NONSENSE for value in NONSENSE[name]])
def test_nonsense_stops_the_start_with_a_line(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names the setting, the wrong value and the allowed values."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        read_settings([])
    assert stopped.value.code == 2
    printed, line = capsys.readouterr()
    assert printed == ""
    assert line.count("\n") == 1, line
    assert name.removeprefix("GIN_") in line
    assert repr(value) in line or f'"{value}"' in line
    assert re.search(r"(?i)expected|must|may|should|one of|between", line)


MISTAKES = {"PORT": "x", "MODE": "loud", "PING_PERIOD_SEC": "-5", "MAX_MESSAGE_BYTES": "1MB"}


def check_mistakes(told: str) -> None:
    lines = told.splitlines()
    assert len(lines) == len(MISTAKES), told
    for line, (name, value) in zip(sorted(lines), sorted(MISTAKES.items()), strict=True):
        assert name in line
        assert value in line


@pytest.mark.parametrize("place", ["flags", "environment", "file"])
def test_several_mistakes_are_told_at_once(
    place: str, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags: list[str] = []
    if place == "flags":
        flags = [f"--{name.lower()}={value}" for name, value in MISTAKES.items()]
    elif place == "environment":
        for name, value in MISTAKES.items():
            monkeypatch.setenv(name, value)
    else:
        (directory / ".env").write_text("".join(f"{name}={value}\n" for name, value in MISTAKES.items()))
    with pytest.raises(SystemExit) as stopped:
        read_settings(flags)
    assert stopped.value.code == 2
    printed, told = capsys.readouterr()
    assert printed == ""
    check_mistakes(told)


def test_mistakes_stop_the_server(directory: Path) -> None:
    """The server reads its settings in another process, which reports the mistakes."""
    flag, *others = MISTAKES.items()
    stopped = serve(f"--{flag[0].lower()}={flag[1]}", environment=dict(others))
    assert (stopped.returncode, stopped.stdout) == (2, "")
    check_mistakes(stopped.stderr)


@pytest.mark.parametrize("flags", [["--nonsense", "1"], ["--port"], ["nonsense"]])
def test_flags_that_do_not_exist_stop_the_start(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        read_settings(flags)
    assert stopped.value.code == 2
    assert flags[0].lstrip("-") in capsys.readouterr().err


def test_help_lists_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as shown:
        read_settings(["--help"])
    assert shown.value.code == 0
    _, _, options = capsys.readouterr().out.partition("options:")
    for name, default in DEFAULTS.items():
        described = re.search(rf"\n  --{name.lower().replace('_', '-')}\b(.*?)(?=\n  --|\Z)", options, re.DOTALL)
        assert described, f"{name}:\n{options}"
        words = " ".join(described[1].split())
        assert re.search(rf"default: {re.escape(str(default))}(\.0)?(?!\w)", words), words
    assert "\n  --log-level" in options


def test_the_server_shows_its_help() -> None:
    shown = serve("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\n  --port" in shown.stdout


def test_a_port_that_is_taken_is_said_clearly() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        stopped = serve("--host", "127.0.0.1", "--port", str(port))
    assert stopped.returncode == 1
    assert "Traceback" not in stopped.stderr
    last = stopped.stderr.splitlines()[-1]
    assert str(port) in last
    assert "in use" in last


def test_a_host_that_does_not_exist_is_said_clearly() -> None:
    stopped = serve("--host", "192.0.2.1", "--port", "0")
    assert stopped.returncode == 1
    assert "Traceback" not in stopped.stderr
    assert "192.0.2.1" in stopped.stderr.splitlines()[-1]
