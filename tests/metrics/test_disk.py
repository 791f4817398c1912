"""The sizes of a journal's files, and the space that is left for them."""

from __future__ import annotations

import os
from pathlib import Path

from pubsub.metrics.disk import measure_disk


def test_files_have_their_sizes_and_one_that_is_missing_has_none(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"x" * 100)
    found = measure_disk([str(tmp_path / "journal.db"), str(tmp_path / "journal.db-wal")])
    assert found.files == {"journal.db": 100, "journal.db-wal": 0}
    assert found.free is not None
    assert 0 < found.free <= os.statvfs(tmp_path).f_frsize * os.statvfs(tmp_path).f_blocks


def test_a_journal_without_files_has_no_space_of_its_own() -> None:
    found = measure_disk(())  # that of an engine
    assert (found.files, found.free) == ({}, None)


def test_a_directory_that_is_gone_has_no_known_space(tmp_path: Path) -> None:
    found = measure_disk([str(tmp_path / "gone" / "journal.db")])
    assert (found.files, found.free) == ({"journal.db": 0}, None)
