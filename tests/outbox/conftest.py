"""One PostgreSQL and one server for all tests of a process, and an outbox in a schema of its own for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import ForkedServer
from tests.outbox.postgres import Postgres
from tests.outbox.running import FLAGS, Place


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres() as running:
        yield running


@pytest.fixture(scope="session")
def server() -> Iterator[ForkedServer]:
    with ForkedServer(*FLAGS) as running:
        yield running


@pytest.fixture
def place(postgres: Postgres, server: ForkedServer, tmp_path: Path) -> Iterator[Place]:
    with Place(postgres, server.url, tmp_path) as place:
        yield place
