"""Servers with several workers, in processes of their own."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import RawClient, ServerProcess

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class WorkersProcess(ServerProcess):
    """A server with ``--workers``."""

    def __init__(self, workers: int, *flags: str, **more: Any) -> None:
        self.workers = workers
        super().__init__("--workers", str(workers), *flags, **more)

    @property
    def pids(self) -> dict[int, int]:
        """The process of each worker that runs, by the worker's number."""
        return workers_of(self.process.pid)

    def kill(self, worker: int) -> int:
        """Kill a worker; returns the id of its process."""
        pid = self.pids[worker]
        os.kill(pid, signal.SIGKILL)
        return pid


def workers_of(supervisor: int) -> dict[int, int]:
    found: dict[int, int] = {}
    for path in Path("/proc").iterdir():
        try:
            _, parent, *_ = facts = (path / "stat").read_text().rpartition(")")[2].split()
            name = (path / "cmdline").read_bytes().split(b"\0")[-2:-1]
        except (OSError, ValueError):
            continue
        if int(parent) == supervisor and facts[0] != "Z" and name and name[0].startswith(b"worker-"):
            found[int(name[0].removeprefix(b"worker-"))] = int(path.name)
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def scrape(url: str) -> Samples:
    async with aiohttp.ClientSession(url) as http, http.get("/metrics") as response:
        text = await response.text()
    return {
        (each.name, frozenset(each.labels.items())): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def by_worker(samples: Samples, name: str, **labels: str) -> dict[int, float]:
    """The values of a metric with these labels, by the number of the worker."""
    found: dict[int, float] = {}
    for (each, of_sample), value in samples.items():
        has = dict(of_sample)
        if each == name and labels.items() <= has.items():
            found[int(has["worker"])] = value
    return found


async def connect_all(server: ServerProcess, count: int, prefix: str = "c") -> list[RawClient]:
    """Connect clients with names of their own."""
    return [await RawClient.connect(server.port, path=f"/ws?client_id={prefix}{each}") for each in range(count)]


def lines_of(log: str) -> Iterator[re.Match[str]]:
    """The lines of a log as text."""
    for line in log.splitlines():
        found = re.fullmatch(r"\S+ \S+ \[(?P<level>\w+)\] (?:worker (?P<worker>\d+): )?(?P<text>.*)", line)
        assert found, line
        yield found
