"""The write-ahead log of SQLite, read as bytes: how many commits it holds. The format is that of SQLite's file format,
section 4.

SQLite reads a log up to the first frame whose checksum is wrong and says nothing of what follows. That is right for a
commit that was cut off, and silent loss where a byte in the middle is wrong; this tells one from the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_HEADER: Final = 32
_FRAME_HEADER: Final = 24
_SALT: Final = slice(8, 16)


def count_commits(database: Path) -> list[int]:
    """The numbers, from 1, of the frames of the log that end a commit, whether they can be read or not."""
    path = database.with_name(f"{database.name}-wal")
    try:
        with path.open("rb") as log:
            header = log.read(_HEADER)
            page_size = int.from_bytes(header[8:12], "big")
            if len(header) < _HEADER or not page_size:
                return []
            salt, commits, number = header[16:24], [], 0
            while len(frame := log.read(_FRAME_HEADER)) == _FRAME_HEADER:
                number += 1
                # Another salt is of an older log, which is being written over. The size of the database stands in
                # frames that end a commit, and zero in all others.
                if frame[_SALT] == salt and any(frame[4:8]):
                    commits.append(number)
                log.seek(page_size, 1)
            return commits
    except FileNotFoundError:
        return []
