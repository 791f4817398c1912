"""The file of positions: its shape, its faults, and its replacement."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pubsub.cli.resume_file import read_positions, save_positions
from pubsub.cli.running import Unusable
from pubsub.client import Position

POSITIONS = {"orders": Position("k3f9", 41), "orders.eu": Position("a", 0)}


def test_positions_are_read_as_they_were_saved(tmp_path: Path) -> None:
    file = tmp_path / "positions"
    assert read_positions(file) == {}
    save_positions(file, {"old": Position("e", 1)})
    save_positions(file, POSITIONS)
    assert read_positions(file) == POSITIONS
    assert file.read_text() == '{"orders":{"epoch":"k3f9","seq":41},"orders.eu":{"epoch":"a","seq":0}}\n'
    assert [each.name for each in tmp_path.iterdir()] == ["positions"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"a":{"epoch":"e"}}', '{"a":{"epoch":1,"seq":1}}', "\xff", '{"a":{"x":' + "[" * 9999]
)
def test_file_without_positions_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "positions"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(Unusable, match=r"positions: expected positions as in \{\"orders\":"):
        read_positions(file)


def test_file_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=f"^{tmp_path}: Is a directory$"):
        read_positions(tmp_path)
    for place, reason in ((tmp_path / "none" / "positions", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(Unusable, match=f"^{place}: {reason}"):
            save_positions(place, POSITIONS)
    assert not list(tmp_path.iterdir())


def test_link_to_the_file_stays_one(tmp_path: Path) -> None:
    file, link = tmp_path / "positions", tmp_path / "link"
    link.symlink_to(file)
    save_positions(link, POSITIONS)
    assert link.is_symlink()
    assert read_positions(file) == POSITIONS


def test_reader_never_sees_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "positions"
    save_positions(file, POSITIONS)
    seen = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(read_positions(file)))
    save_positions(file, {})
    assert seen == [POSITIONS]
    assert read_positions(file) == {}
