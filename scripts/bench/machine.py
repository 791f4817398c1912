"""CPU time, memory and other load of processes and of the machine, as the kernel reports them in /proc. Pins cores."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory in KiB: RSS counts shared pages in full, PSS divides them among the processes that share them."""

    rss: int
    pss: int


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run each process started in this block on that core only; pinning it later would miss its running threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def process_tree(pid: int) -> list[int]:
    children: list[int] = []
    for listing in PROC.glob(f"{pid}/task/*/children"):
        with suppress(OSError):
            children += [int(child) for child in listing.read_text().split()]
    return [pid, *(descendant for child in children for descendant in process_tree(child))]


def own_cpu_seconds(pid: int) -> float:
    """Return the user and system time of one process and of the children it has waited for."""
    with suppress(OSError):
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / TICKS_PER_SECOND
    return 0.0


def cpu_seconds(pid: int) -> float:
    return sum(map(own_cpu_seconds, process_tree(pid)))


def memory(pid: int) -> Memory:
    rss = pss = 0
    for process in process_tree(pid):
        fields = _key_values(PROC / str(process) / "smaps_rollup")
        rss += int(fields["Rss"].split()[0])
        pss += int(fields["Pss"].split()[0])
    return Memory(rss, pss)


def busy_seconds() -> float:
    """Return the CPU seconds of all programs on this machine, and those that its host used (steal)."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(field) for field in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND


def is_in_memory(folder: Path) -> bool:
    """Return True if the file system of the folder is in memory, without a disk."""
    mounts = [line.split()[1:3] for line in (PROC / "mounts").read_text().splitlines()]
    holding = [(len(point), kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(holding)[1] in ("tmpfs", "ramfs")


def describe() -> dict[str, str]:
    """Return the facts that a reader needs to judge the figures; nothing that identifies this machine."""
    cpu = _key_values(PROC / "cpuinfo")
    return {
        "cpu": cpu.get("model name", platform.machine()),
        "cores": str(os.cpu_count()),
        "memory": f"{int(_key_values(PROC / 'meminfo')['MemTotal'].split()[0]) / 1024**2:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def _key_values(path: Path) -> dict[str, str]:
    """Return the first value of each key, from lines of the form `key: value`."""
    values: dict[str, str] = {}
    for line in path.read_text().splitlines():
        key, colon, value = line.partition(":")
        if colon:
            values.setdefault(key.strip(), value.strip())
    return values
