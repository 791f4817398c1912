"""The benchmark: each cell is in a table, each aim has a cell, and two versions differ only beyond their spread."""

from __future__ import annotations

import pytest
from catalog import PEERS, peers_before
from cells import curve_cells, flood_cells, full_cells, plain_and_feature_cells
from comparison import verdict
from report import TABLES
from results import Spread
from standing import AIMS

ALL_CELLS = [*full_cells(1), *curve_cells(1), *flood_cells(1)]


def test_each_cell_has_a_name_a_table_and_a_peer() -> None:
    assert len({cell.name for cell in ALL_CELLS}) == len(ALL_CELLS)
    assert {cell.group for cell in ALL_CELLS} <= {table.group for table in TABLES}
    assert {cell.group for cell in ALL_CELLS} <= {group for peer in PEERS for group in peer.groups}
    assert {cell.name for cell in plain_and_feature_cells(1)} <= {cell.name for cell in full_cells(1)}


def test_each_aim_has_a_cell() -> None:
    assert {aim.cell for aim in AIMS} | {aim.than for aim in AIMS} <= {cell.name for cell in full_cells(1)} | {""}


def test_a_version_takes_part_in_the_cells_of_this_server() -> None:
    assert [peer.name for peer in peers_before("0" * 40)] == ["ours", "ours-durable", "before", "before-durable"]


@pytest.mark.parametrize(
    ("old", "new", "samples", "told"),
    [
        (Spread(10, 9, 11), Spread(12, 11.5, 13), 3, "**20 % more**"),
        (Spread(10, 9, 11), Spread(8, 7, 8.9), 3, "**20 % less**"),
        (Spread(10, 9, 11), Spread(12, 11, 13), 3, "within the spread"),
        (Spread(10, 9, 11), Spread(10, 5, 20), 3, "within the spread"),
        (Spread(0, 0, 0), Spread(0, 0, 0), 3, "within the spread"),
        (Spread(0, 0, 0), Spread(1, 1, 1), 3, "**more**"),
        (Spread(10, 9, 11), Spread(20, 20, 20), 2, "too few rounds"),
    ],
)
def test_versions_differ_beyond_their_spread(old: Spread, new: Spread, samples: int, told: str) -> None:
    assert verdict(old, new, samples) == told
