"""The contract of a topic's log, at a worker: the same tests as for the other journals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journals.test_contract import *  # noqa: F403
from tests.journals.world import World
from tests.workers.link import WorkerLink

del test_a_thousand_racing_writers_lose_no_update  # noqa: F821 - several seconds of round trips


@pytest.fixture(params=["memory", "disk"])  # type: ignore[no-redef]
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "disk" and "collector_of_cycles" in request.node.name:
        pytest.skip("the writing thread holds its last group until there is another one")
    links: list[WorkerLink] = []

    def make_link(world: World) -> WorkerLink:
        links.append(WorkerLink(world, tmp_path, durable=request.param == "disk"))
        return links[-1]

    world = World(None, shared=True, make_link=make_link)
    yield world
    world.close()
    for link in links:
        link.close()
