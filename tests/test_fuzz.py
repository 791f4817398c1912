"""Fuzz targets with the corpus and with inputs from hypothesis, the same in every run. `make fuzz` tries more."""

from __future__ import annotations

import json
import subprocess
import sys

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from tests.fuzzing import CORPUS, TARGETS, corpus_of
from tests.harness import REPOSITORY, clean_environment, masked_frame

WORDS = st.sampled_from(
    [
        "type",
        "subscribe",
        "unsubscribe",
        "publish",
        "ping",
        "history",
        "auth",
        "topic",
        "client_id",
        "last_n",
        "after",
        "limit",
        "request_id",
        "message",
        "id",
        "payload",
        "token",
        "a",
        "550e8400-e29b-41d4-a716-446655440000",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(), inner, max_size=6),
    max_leaves=20,
)
REQUESTS = JSON.map(lambda value: json.dumps(value).encode())
FRAMES = st.lists(
    st.builds(masked_frame, st.sampled_from([0x81, 0x01, 0x00, 0x80, 0x82, 0x88, 0x89, 0x8A, 0xC1]), REQUESTS),
    max_size=5,
)
STREAMS = st.builds(lambda cut, frames: bytes((cut,)) + b"".join(frames), st.integers(0, 255), FRAMES)
NAMES = st.lists(st.text("ab.*>~", max_size=8), min_size=1, max_size=4).map(lambda lines: "\n".join(lines).encode())
FIELDS = st.sampled_from(["pattern", "create", "delete_idle_sec", "options", "history", "overflow", "durable", "a"])
VALUES = JSON | st.sampled_from(["room.*", "a.>", True, 3600, 0.5, "latest", {"history": 50}, {"durable": True}])
RULES = st.lists(st.dictionaries(FIELDS, VALUES, max_size=4) | JSON, max_size=4).map(
    lambda rules: json.dumps(rules).encode()
)
INPUTS = {
    "rules": RULES,
    "requests": REQUESTS,
    "frames": STREAMS,
    "connection": STREAMS,
    "patterns": NAMES,
    "topics": NAMES,
}
EXAMPLES = {"settings": 60}  # others: 150; an example of the settings takes 10 ms


@pytest.mark.parametrize(("target", "name"), [(target, path.name) for target in TARGETS for path in corpus_of(target)])
def test_row_31_the_corpus(target: str, name: str) -> None:
    TARGETS[target]((CORPUS / target / name).read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_row_31_anything_at_all(target: str) -> None:
    @settings(max_examples=EXAMPLES.get(target, 150), derandomize=True, database=None)
    @given(st.binary(max_size=400) | INPUTS.get(target, st.nothing()))
    @example(b"")
    def run(given_bytes: bytes) -> None:
        TARGETS[target](given_bytes)

    run()


def test_row_31_make_fuzz_runs() -> None:
    """Run one target for a second, as `make fuzz` does for all."""
    command = [sys.executable, "scripts/fuzz.py", "--seconds", "1", "topics"]
    done = subprocess.run(command, cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "topics" in done.stdout
