"""The notebook: its cells run in order, beside a running loop as in Jupyter, and give the outputs that are shown."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.examples.programs import EXAMPLES, ExampleServer

CELLS = json.loads((EXAMPLES / "notebook" / "pubsub.ipynb").read_text(encoding="utf-8"))["cells"]


def test_cells_give_the_outputs_that_are_shown(server: ExampleServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_URL", server.url)
    with ThreadPoolExecutor() as threads:  # this thread has the loop of the browser
        threads.submit(asyncio.run, run_cells([cell for cell in CELLS if cell["cell_type"] == "code"])).result()


async def run_cells(cells: list[dict[str, Any]]) -> None:
    namespace: dict[str, Any] = {}
    for number, cell in enumerate(cells, 1):
        source = "".join(cell["source"])
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            result = run_cell(source, namespace)
        shown = {output["output_type"]: output for output in cell["outputs"]}
        assert printed.getvalue() == "".join(shown.get("stream", {"text": []})["text"]), source
        value = shown.get("execute_result", {"data": {"text/plain": ["None"]}})["data"]["text/plain"]
        assert repr(result) == "".join(value), source
        assert cell["execution_count"] == number


def run_cell(source: str, namespace: dict[str, Any]) -> object:
    """Run a cell; return the value of its last expression, as a notebook shows it."""
    *before, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        exec(compile(source, "cell", "exec"), namespace)
        return None
    exec(compile(ast.Module(before, []), "cell", "exec"), namespace)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
