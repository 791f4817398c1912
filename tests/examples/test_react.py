"""The hook for React, with the real client in Node and as much of React as it needs."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from tests.examples.programs import EXAMPLES
from tests.harness import PATIENCE, ForkedServer
from tests.javascript.node import CLIENT, NODE

HERE = Path(__file__).parent


def test_a_component_shows_messages_and_leaves_nothing(tmp_path: Path) -> None:
    """It subscribes once for each topic, unsubscribes when the topic changes, and tells errors. Node ends by itself."""
    make_package(tmp_path, "react", HERE / "react.mjs")
    make_package(tmp_path, "pubsub-client", CLIENT, *CLIENT.parent.glob("client-*.js"))
    for file in (*(EXAMPLES / "react").glob("*.js"), HERE / "react_test.mjs"):
        shutil.copy(file, tmp_path)
    (tmp_path / "package.json").write_text('{"type":"module"}', encoding="utf-8")
    with ForkedServer() as server:
        done = subprocess.run(
            [NODE, "react_test.mjs", server.url],
            cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["0 1", "0"]


def make_package(folder: Path, name: str, main: Path, *others: Path) -> None:
    package = folder / "node_modules" / name
    package.mkdir(parents=True)
    for file in (main, *others):
        shutil.copy(file, package)
    (package / "package.json").write_text(json.dumps({"type": "module", "exports": f"./{main.name}"}), encoding="utf-8")
