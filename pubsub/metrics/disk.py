"""Sizes of a journal's files, and the space that is left for them. It asks the disk, so call it in a thread."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DiskUse:
    """In bytes. ``files``: the size of each. ``free``: what this process may still write; None if it is not known."""

    files: dict[str, int]
    free: int | None


def measure_disk(paths: Sequence[str]) -> DiskUse:
    """A file that does not exist has 0 bytes: the write-ahead log comes and goes. An engine has no files here."""
    if not paths:
        return DiskUse({}, None)
    return DiskUse({os.path.basename(path): _size(path) for path in paths}, _free(os.path.dirname(paths[0])))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _free(directory: str) -> int | None:
    if sys.platform == "win32":
        return None
    try:
        found = os.statvfs(directory)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
