"""`make fuzz`: feeds each target of tests/fuzzing.py with generated input, guided by the code that the input reaches.

An input that reaches new code goes to .cache/corpus. A failing input goes there too; it is printed, and the exit status
is 1: put it into tests/corpus after you fix the bug. Without atheris, hypothesis generates the inputs without guidance.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent
FOUND = REPOSITORY / ".cache" / "corpus"
GUIDED = (
    "pubsub.protocol.requests",
    "pubsub.protocol.mistakes",
    "pubsub.protocol.payloads",
    "pubsub.protocol.frames",
    "pubsub.auth.permissions",
    "pubsub.websocket.session",
    "pubsub.websocket.connection",
)

sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "scripts" / "soak")]

atheris: Any = import_module("atheris") if find_spec("atheris") else None


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the parsers of untrusted input.")
    parser.add_argument("targets", nargs="*", help="targets to fuzz (default: all)")
    parser.add_argument("--seconds", type=int, default=20, help="time for each target (default: %(default)s)")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.alone:
        return fuzz(chosen.targets[0], chosen.seconds)
    if atheris is None:
        print("atheris has no wheel for this platform: hypothesis generates the inputs, without guidance.")
    targets = chosen.targets or names()
    failed = [target for target in targets if not run_alone(target, chosen.seconds)]
    print(f"Failed: {', '.join(failed)}" if failed else "No failures found.")
    return 1 if failed else 0


def names() -> list[str]:
    from tests.fuzzing import TARGETS

    return list(TARGETS)


def run_alone(target: str, seconds: int) -> bool:
    """Fuzz one target in its own process, because libFuzzer ends the process."""
    print(f"{target}: {seconds} s", flush=True)
    command = [sys.executable, __file__, "--alone", "--seconds", str(seconds), target]
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 0


def fuzz(target: str, seconds: int) -> int:
    logging.disable()
    return fuzz_blindly(target, seconds) if atheris is None else fuzz_guided(target, seconds)


def fuzz_guided(target: str, seconds: int) -> int:
    with atheris.instrument_imports(include=list(GUIDED), enable_loader_override=False):
        import pubsub.websocket.connection  # noqa: F401 - instruments it and what it imports
    from tests.fuzzing import CORPUS, TARGETS

    found = FOUND / target
    found.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        "-max_len=4096",
        f"-artifact_prefix={found}/",
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # drops the output of the program under test
    atheris.Setup([sys.argv[0], *options, str(found), str(CORPUS / target)], TARGETS[target])
    atheris.Fuzz()
    return 0


def fuzz_blindly(target: str, seconds: int) -> int:
    import hypothesis.strategies as st
    from hypothesis import HealthCheck, given, settings

    from tests.fuzzing import TARGETS

    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        run = given(st.binary(max_size=400))(TARGETS[target])
        settings(max_examples=1000, deadline=None, database=None, suppress_health_check=list(HealthCheck))(run)()
    return 0


if __name__ == "__main__":
    sys.exit(main())
