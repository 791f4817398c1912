"""The names of the package, and the cost of its import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pubsub.client
from tests.harness import PATIENCE, REPOSITORY

IMPORT = (
    "import sys, pubsub.client.credentials, pubsub.client.errors; print([name for name in {!r} if name in sys.modules])"
)
EXPENSIVE = ["aiohttp", "asyncio", "pydantic", "uvloop", "pubsub.client.client"]


def test_every_name_can_be_had() -> None:
    for name in pubsub.client.__all__:
        assert getattr(pubsub.client, name) is not None
    assert dir(pubsub.client) == pubsub.client.__all__


def test_another_name_can_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Klient'"):
        _ = pubsub.client.Klient


def test_the_base_of_the_package_is_cheap_to_import() -> None:
    command = [sys.executable, "-c", IMPORT.format(EXPENSIVE)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout == "[]\n"
