"""The cost of several workers: CPU time of each process for a million deliveries, throughput, and memory.

    python scripts/bench/workers.py [--seconds 3] [--workers 1,2,4] [--cells 100x20,1000x20,0x200,0x1] [--json FILE]

A cell is a number of subscribers and of messages in flight. Without subscribers it is the cost of the way of a message:
its publisher is at the third worker, the first one decides, and the second one only follows. CPU times are those of the
processes, so they tell the same on a busy machine; the throughput does not, and with fewer cores than processes it says
nothing about more cores.
"""

import argparse
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from os import environ, sysconf
from pathlib import Path
from typing import Any

from install import HERE, Cache

ROOT = Path(__file__).parents[2]
TICK = 1 / sysconf("SC_CLK_TCK")
PROCESS = "pubsub.workers.process"


@dataclass(frozen=True)
class Row:
    """A measurement. ``cpu``: seconds for a million deliveries, or messages where there are no subscribers, by process.

    ``memory``: MiB of each process, with the pages that it shares.
    """

    workers: int
    cell: str
    deliveries_per_second: float
    messages_per_second: float
    cpu: dict[str, float]
    memory: dict[str, float]

    @property
    def whole(self) -> float:
        return sum(self.cpu.values())


class Server:
    """A server with workers. ``processes``: the id of each process by its name."""

    def __init__(self, workers: int, folder: str) -> None:
        command = [sys.executable, "-m", "pubsub", "serve", "--host", "127.0.0.1", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--workers", str(workers)],
            cwd=folder, env={**environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None, "it is started with a pipe"
        while "Listening on" not in (line := self.process.stderr.readline()):
            if not line:
                raise SystemExit("the server did not start")
        self.port = int(line.rpartition(":")[2])
        self.processes = {"server" if workers == 1 else "supervisor": self.process.pid}
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # a process of somebody else has ended
                words = (path / "cmdline").read_bytes().decode().split("\0")
                if PROCESS in words and stat_of(int(path.name))[1] == str(self.process.pid):
                    self.processes[words[-2]] = int(path.name)
        self.processes = dict(sorted(self.processes.items(), key=lambda each: each[0] != "supervisor"))

    def cpu(self) -> dict[str, float]:
        """CPU seconds of each process so far."""
        return {name: sum(map(int, stat_of(pid)[11:13])) * TICK for name, pid in self.processes.items()}

    def memory(self) -> dict[str, float]:
        """Resident memory of each process in MiB."""
        return {name: int(stat_of(pid)[21]) * sysconf("SC_PAGESIZE") / 2**20 for name, pid in self.processes.items()}


def stat_of(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name (proc(5)): the first is the state."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@contextmanager
def running(workers: int) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(workers, folder)
        try:
            yield server
        finally:
            server.process.terminate()
            server.process.communicate(timeout=30)


def measure(load: Path, workers: int, cell: str, seconds: float) -> Row:
    subscribers, window = map(int, cell.split("x"))
    with running(workers) as server:
        mode = ["fanout", f"--subscribers={subscribers}"] if subscribers else ["publish", "--publishers=1"]
        command = [str(load), *mode, f"--port={server.port}", "--dialect=pubsub", f"--window={window}",
                   f"--seconds={seconds}", "--wait"]  # fmt: skip
        with (
            socket.create_connection(("127.0.0.1", server.port)),  # at the first worker
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
        ):
            assert process.stdin is not None, "it is started with pipes"
            assert process.stdout is not None, "it is started with pipes"
            process.stdout.readline()  # all clients are connected
            before = server.cpu()
            process.stdin.write("\n")
            process.stdin.flush()
            found: dict[str, Any] = json.loads(process.stdout.readline())
            after, memory = server.cpu(), server.memory()
        return make_row(workers, cell, found, {name: after[name] - before[name] for name in after}, memory)


def make_row(workers: int, cell: str, found: dict[str, Any], used: dict[str, float], memory: dict[str, float]) -> Row:
    if not found["ok"]:
        raise SystemExit(f"{workers} workers, {cell}: {found}")
    million = (found["deliveries"] or found["messages"]) / 1e6
    cpu = {name: each / million for name, each in used.items()}
    return Row(workers, cell, found["deliveries"] / found["seconds"], found["messages"] / found["seconds"], cpu, memory)


def told(row: Row) -> str:
    parts = ", ".join(f"{name} {each:.3f}" for name, each in row.cpu.items())
    memory = ", ".join(f"{each:.0f}" for each in row.memory.values())
    return (
        f"{row.cell:>8} {row.workers} workers: {row.deliveries_per_second:>9,.0f} deliveries/s, "
        f"{row.messages_per_second:>6,.0f} messages/s, CPU s a million {row.whole:.3f} ({parts}); MiB {memory}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--cells", default="100x20,1000x20,0x200,0x1")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir(), "benchcache"))
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    load = Cache(chosen.cache).compiled(HERE / "load.c")
    rows: list[Row] = []
    for cell in chosen.cells.split(","):
        for workers in map(int, chosen.workers.split(",")):
            row = measure(load, workers, cell, chosen.seconds)
            rows.append(row)
            print(told(row), flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
