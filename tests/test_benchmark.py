"""The benchmark: each cell is in a table, each aim has a cell, and two versions differ only beyond their spread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from catalog import PEERS, SERVER_PEERS, SERVERS, peers_before
from cells import Cell, all_cells, plain_and_feature_cells, server_cells
from comparison import verdict
from costs import COSTS, HIGHLIGHTS
from report import HEADLINE_CELLS, HEADLINE_PEERS, PLACE, TABLES, all_parts, write_into
from results import Results, Spread
from sampling import Sample
from standing import AIMS, BEST, Aim

from tests.harness import REPOSITORY

ALL_CELLS = all_cells(1)
NAMES = {cell.name for cell in ALL_CELLS}
PAGES = [REPOSITORY / "docs" / "performance.md", REPOSITORY / "README.md"]


def test_each_cell_has_a_name_a_table_and_a_peer() -> None:
    assert len(NAMES) == len(ALL_CELLS)
    assert {cell.group for cell in ALL_CELLS} <= {table.group for table in TABLES}
    assert all(any(cell.takes(peer) for peer in PEERS) for cell in ALL_CELLS if cell.group != SERVERS)
    assert {cell.name for cell in plain_and_feature_cells(1)} <= NAMES


def test_each_aim_and_each_cost_has_its_cells_and_peers() -> None:
    places = {place for cost in COSTS for place in (cost.used, cost.plain)}
    places |= {(cell, peer) for _, cell, _, peer in HIGHLIGHTS}
    places |= {(aim.cell, aim.of) for aim in AIMS} | {(aim.than, aim.of) for aim in AIMS if aim.than}
    places |= {(aim.cell, aim.beside) for aim in AIMS if aim.beside not in ("", BEST)}
    taken = {(cell.name, peer.name) for cell in ALL_CELLS for peer in PEERS if cell.takes(peer)}
    assert places <= taken | {(cell.name, peer) for cell in server_cells() for peer in SERVER_PEERS}
    assert set(HEADLINE_CELLS) <= NAMES
    assert set(HEADLINE_PEERS) <= {peer.name for peer in PEERS}


def test_the_pages_have_a_place_for_each_part() -> None:
    places = {place[1] for page in PAGES for place in PLACE.finditer(page.read_text())}
    assert places == set(all_parts(Results({}, [], {}, {}))) - {"before"}


def sample(**figures: float) -> Sample:
    return Sample(figures, disturbance=0)


def a_run(cells: Sequence[Cell]) -> Results:
    return Results({"date": "today"}, cells, {"ours": "this server", "nats": "another"}, {})


def test_a_page_gets_the_parts_of_a_run_and_keeps_the_rest(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    kept = "after\n<!-- bench: costs -->\nkept\n<!-- end -->\n"
    page.write_text(f"before\n<!-- bench: about -->\nold\n<!-- end -->\n{kept}")
    for _ in range(2):
        write_into(page, a_run([]))
        assert page.read_text() == f"before\n<!-- bench: about -->\n\n- date: today\n\n<!-- end -->\n{kept}"


def test_a_run_goes_on_from_its_file(tmp_path: Path) -> None:
    file, cells = tmp_path / "run.json", [ALL_CELLS[0]]
    name = cells[0].name
    first = a_run(cells)
    first.add((name, "ours"), sample(cpu_s_per_million=2.0))
    first.add((name, "nats"), sample(cpu_s_per_million=3.0))
    first.add_failure((name, "nats"), "lost 1")
    file.write_text(first.as_json())
    again = a_run(cells)
    again.load(file)
    assert (again.samples, again.failures) == (first.samples, first.failures)
    assert [again.runs((name, peer)) for peer in ("ours", "nats")] == [1, 2]
    without = a_run(cells)
    without.load(file, without={"nats"})
    assert [without.runs((name, peer)) for peer in ("ours", "nats")] == [1, 0]


@pytest.mark.parametrize(("aim", "reached"), [(AIMS[0], [True, True, False]), (AIMS[1], [False, True, True])])
def test_an_aim_has_a_direction(aim: Aim, reached: list[bool]) -> None:
    assert [aim.reached(share * aim.limit) for share in (0.9, 1, 1.1)] == reached


def test_an_aim_beside_a_peer_is_a_multiple_of_its_figure() -> None:
    results = a_run(ALL_CELLS)
    results.add(("10x20", "ours"), sample(cpu_s_per_million=3.0))
    results.add(("10x20", "nats"), sample(cpu_s_per_million=4.0))
    assert [Aim("", "10x20", "cpu_s_per_million", 1, beside=peer).measure(results) for peer in ("nats", BEST)] == [
        0.75
    ] * 2


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
