"""The benchmark: this server and its peers side by side, each on one core, under load from another.

    python scripts/bench/bench.py                         this server, the usual Python design and the floor
    python scripts/bench/bench.py --quick                 a few figures of the first two, in a minute
    python scripts/bench/bench.py --against main         this server, and the one of a commit
    python scripts/bench/bench.py --all                  everything, into the pages and plots of the documentation

Peers take turns within each round, so that a change in the machine's speed affects all of them. The file that --json
names is written after each cell; --resume continues the run in it. The exit status is 1 if a message was lost,
duplicated or out of order, or if an installed peer did not run.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import machine
from catalog import PEERS, ROOT, SERVER_PEERS, SERVERS, Launch, Peer, peers_before
from cells import Cell, all_cells, curve_cells, flood_cells, full_cells, plain_and_feature_cells, quick_cells
from cluster import rows_of
from install import HERE, Cache, Missing, commit_of
from processes import Failed
from report import markdown, write_into, write_plots
from results import Results
from sampling import Bench, Sample, take_sample

DEFAULT_PEERS = "ours,baseline,floor"
QUICK_PEERS = "ours,baseline"


def main() -> int:
    options = read_options()
    cache = Cache(options.cache)
    launches, missing = prepare(options.peers, cache)
    server_core, load_core = options.cores
    bench = Bench(cache.compiled(HERE / "load.c"), server_core, load_core, disk=options.cache)
    results = Results(
        about=machine.describe() | {"date": time.strftime("%Y-%m-%d"), "command": spell_command(sys.argv[1:])},
        cells=options.cells,
        peers={peer.name: peer.title for peer in launches},
        missing=missing,
    )
    if options.resume and options.json.exists():
        results.load(options.json, without={peer.name for peer in options.again})
    start = time.monotonic()
    for number in range(options.rounds):
        run_round(bench, launches, results, number, options.json)
        run_servers(cache, results, number, options.seconds)
    say(f"{(time.monotonic() - start) / 60:.1f} minutes")
    write_results(options, results)
    return 1 if results.failures else 0


def spell_command(arguments: Sequence[str]) -> str:
    """The command without the folder of this machine."""
    words = list(arguments)
    if "--cache" in words:
        at = words.index("--cache")
        del words[at : at + 2]
    return " ".join(["bench.py", *words])


def prepare(peers: Sequence[Peer], cache: Cache) -> tuple[dict[Peer, Launch], dict[str, str]]:
    """Return the peers that can be started, and for each other peer the reason it is missing."""
    launches: dict[Peer, Launch] = {}
    missing: dict[str, str] = {}
    for peer in peers:
        try:
            launches[peer] = peer.prepare(cache)
        except Missing as reason:
            missing[peer.name] = str(reason)
            say(f"{peer.name} is missing: {reason}")
    return launches, missing


def run_round(bench: Bench, launches: dict[Peer, Launch], results: Results, number: int, file: Path | None) -> None:
    """Measure each cell with each peer, if an earlier run did not; each round begins with another peer."""
    peers = list(launches)
    first = number % max(len(peers), 1)
    for cell in results.cells:
        runs = 0 if cell.once else number
        due = [each for each in peers[first:] + peers[:first] if cell.takes(each)]
        for peer in (each for each in due if results.runs((cell.name, each.name)) <= runs):
            run_cell(bench, cell, peer, launches[peer], results, number)
        if file:
            file.write_text(results.as_json())


def run_servers(cache: Cache, results: Results, number: int, seconds: float) -> None:
    """Measure several servers that share their topics, if those cells were chosen: they have a program of their own."""
    cells = [cell.name for cell in results.cells if cell.group == SERVERS]
    if not cells or results.runs((cells[0], "ours")) > number:
        return
    results.peers |= SERVER_PEERS
    try:
        for row in rows_of(cache, list(SERVER_PEERS), seconds):
            results.add((row["cell"], row["peer"]), Sample(row["figures"], disturbance=0))
            say(f"round {number + 1}, {SERVERS} {row['cell']}, {row['peer']}: {row['figures']}")
    except (Missing, OSError, TimeoutError) as reason:
        results.missing["several servers"] = str(reason)


def run_cell(bench: Bench, cell: Cell, peer: Peer, launch: Launch, results: Results, number: int) -> None:
    place = (cell.name, peer.name)
    heading = f"round {number + 1}, {cell.group} {cell.name}, {peer.name}: "
    try:
        sample = take_sample(bench, cell, peer, launch)
    except Failed as reason:
        results.add_failure(place, str(reason))
        say(f"{heading}failed: {reason}")
    else:
        results.add(place, sample)
        say(heading + ", ".join(f"{name} {value:.4g}" for name, value in sample.figures.items()))


def write_results(options: argparse.Namespace, results: Results) -> None:
    text = markdown(results)
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    for page in options.page:
        write_into(page, results)
    if options.json:
        options.json.write_text(results.as_json())
    if options.plots:
        write_plots(results, options.plots)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure this server and its peers side by side.")
    parser.add_argument("--all", action="store_true", help="measure everything, and write the documentation's tables")
    parser.add_argument("--resume", action="store_true", help="continue the run that is in the file of --json")
    parser.add_argument("--again", type=peers_named, default=[], help="peers to measure again after --resume")
    parser.add_argument("--quick", action="store_true", help="measure a few figures in a minute")
    parser.add_argument("--curves", action="store_true", help="measure the cost of idle topics and subscribers instead")
    parser.add_argument("--flood", action="store_true", help="measure a flood of bad tokens instead: --peers guarded")
    parser.add_argument("--features", action="store_true", help="measure patterns, filters and streams instead")
    parser.add_argument("--against", type=commit_named, metavar="REV", help="measure a commit too, instead of peers")
    parser.add_argument("--peers", type=peers_named, help=f"all, or their names: {DEFAULT_PEERS}; quick: {QUICK_PEERS}")
    parser.add_argument("--cells", default="", help="run only cells whose name has one of these words, as fanout,10000")
    parser.add_argument("--rounds", type=int, default=3, help="samples of each peer in each cell: %(default)s")
    parser.add_argument("--seconds", type=float, help="length of a measurement: 2; all: 0.5")
    parser.add_argument(
        "--cores", type=cores_of, default="0,1", help="core of the server, core of the load: %(default)s"
    )
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--markdown", type=Path, help="file for the tables, which are also printed")
    parser.add_argument("--page", type=Path, action="append", default=[], help="page with places for the tables")
    parser.add_argument("--plots", type=Path, help="folder for SVG plots")
    parser.add_argument(
        "--cache",
        type=lambda name: Path(name).resolve(),
        default=ROOT / ".cache" / "bench",
        help="folder for compiled and downloaded programs",
    )
    options = parser.parse_args()
    if options.against:
        options.peers = peers_before(options.against)
    if options.all:
        choose_all(options)
    options.seconds = options.seconds or (0.5 if options.all else 2.0)
    options.peers = options.peers or peers_named(QUICK_PEERS if options.quick else DEFAULT_PEERS)
    options.cells = chosen_cells(options)
    if options.resume and not options.json:
        parser.error("--resume needs --json, the file of the run to continue")
    return options


def choose_all(options: argparse.Namespace) -> None:
    """Choose all peers and the places of the documentation, unless other options say otherwise."""
    options.peers = options.peers or peers_named("all")
    options.json = options.json or options.cache / "all.json"
    options.page = options.page or [ROOT / "docs" / "performance.md", ROOT / "README.md"]
    options.plots = options.plots or ROOT / "docs" / "plots"


def chosen_cells(options: argparse.Namespace) -> list[Cell]:
    choices = (
        (options.all, all_cells),
        (options.curves, curve_cells),
        (options.flood, flood_cells),
        (options.features, plain_and_feature_cells),
    )
    if options.quick:
        cells = quick_cells()
    else:
        cells = next((make for chosen, make in choices if chosen), full_cells)(options.seconds)
    words = options.cells.split(",")
    return [cell for cell in cells if any(word in f"{cell.group} {cell.name}" for word in words)]


def peers_named(names: str) -> list[Peer]:
    known = {peer.name: peer for peer in PEERS}
    if names == "all":
        return list(PEERS)
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is not one of {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def commit_named(revision: str) -> str:
    try:
        return commit_of(ROOT, revision)
    except Missing as reason:
        raise argparse.ArgumentTypeError(f"{revision} is not a commit: {reason}") from None


def cores_of(text: str) -> tuple[int, int]:
    server, _, load = text.partition(",")
    if not {server, load} <= {str(core) for core in os.sched_getaffinity(0)}:
        raise argparse.ArgumentTypeError(f"{text} is not two cores of {sorted(os.sched_getaffinity(0))}")
    return int(server), int(load)


if __name__ == "__main__":
    sys.exit(main())
