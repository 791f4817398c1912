"""A server for the commands of a module, and a way to run them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.running import Commands
from tests.harness import ForkedServer, ServerProcess


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ForkedServer() as process:
        yield process


@pytest.fixture
def run(server: ServerProcess, capfd: pytest.CaptureFixture[str]) -> Commands:
    return Commands(server, capfd)
