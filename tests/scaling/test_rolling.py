"""Three servers on a real Redis, behind HAProxy with the file of deploy/cluster, restarted one by one under load."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.harness import REPOSITORY, clean_environment

PATH = f"{os.environ['PATH']}:/usr/sbin"  # the folder of HAProxy, which is not in an ordinary user's PATH


@pytest.mark.timeout(120)
def test_a_rolling_restart_loses_no_message() -> None:
    for program in ("haproxy", "redis-server"):
        if shutil.which(program, path=PATH) is None:
            assert os.environ.get("CI") != "true", f"needs {program}: apt-get install {program}"
            pytest.skip(f"needs {program}: apt-get install {program}")
    command = [sys.executable, "scripts/soak/rolling.py", "--clients", "20", "--rounds", "1"]
    command += ["--drain-sec", "0.8", "--interval", "200ms"]
    done = subprocess.run(command, cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second, *_ = done.stdout.splitlines()
    assert first.startswith("3 restarts, 20 clients, ")
    moved = int(second.removeprefix("moved ").partition(",")[0])
    assert moved >= 20, "each client was at one of the three"
    assert second == f"moved {moved}, recovered {moved}, told 0, lost 0"
