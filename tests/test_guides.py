"""The pages for users of the clients: each block of code on them runs, and prints what the page shows.

The words after the language of a block say how it is checked. Without any it is run. ``blocking``: run without a loop;
``pytest``: run as a test; ``socketio``: code for another library, only compiled; a path: lines of a file of examples/.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import signature
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pubsub.client import Client, errors
from tests.harness import PATIENCE, REPOSITORY, ForkedServer, ServerProcess
from tests.javascript.node import NODE
from tests.test_docs import Block, blocks, section, table

STATIC = REPOSITORY / "pubsub" / "http" / "static"
GUIDES = [
    str(path.relative_to(REPOSITORY))
    for place in ("docs/getting-started/*.md", "docs/migration/*.md", "docs/guarantees.md", "examples/README.md")
    for path in sorted(REPOSITORY.glob(place))
]
# The first word of a block is its language; these are checked here, the others by tests/test_docs.py.
RUN = {"python", "python blocking", "python pytest", "js", "html"}
COMPILED = {"python socketio", "js socketio"}
ELSEWHERE = {"console", "text", "json", "json client", "json server", "output"}
NEXT_BLOCK = "-- the next block --"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server with a rule that creates chat rooms, and nothing else."""
    rules = tmp_path / "rules.json"
    rules.write_text('[{"pattern":"chat.*","create":true}]')
    with ForkedServer("--data-dir", str(tmp_path), "--topic-rules-file", str(rules)) as running:
        yield running


def is_excerpt(block: Block) -> bool:
    return "/" in block.kind


@pytest.mark.parametrize("name", GUIDES)
def test_every_block_is_checked_somewhere(name: str) -> None:
    assert {block.kind for block in blocks(name) if not is_excerpt(block)} <= RUN | COMPILED | ELSEWHERE


@pytest.mark.parametrize("name", GUIDES)
def test_excerpts_are_lines_of_their_files(name: str) -> None:
    for block in filter(is_excerpt, blocks(name)):
        path = block.kind.split()[1]
        rest = (REPOSITORY / "examples" / path).read_text(encoding="utf-8").splitlines()
        for line in block.lines:
            assert line in rest, f"{path} has no line {line!r} after the lines before it"
            del rest[: rest.index(line) + 1]


# Python


@dataclass(frozen=True)
class Shown:
    """A block of code, and the output that the page shows below it; None if it shows none."""

    code: Block
    output: list[str] | None


def shown(name: str, language: str) -> list[Shown]:
    found = [*blocks(name), Block("", [])]
    return [
        Shown(block, following.lines if following.kind == "output" else None)
        for block, following in pairwise(found)
        if block.kind.split(" ")[0] == language and not is_excerpt(block) and block.kind not in COMPILED
    ]


@pytest.mark.parametrize("name", [name for name in GUIDES if shown(name, "python")])
def test_python_does_what_is_shown(name: str, server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "guide", module := ModuleType("guide"))
    asyncio.run(run_blocks(shown(name, "python"), vars(module), server))


async def run_blocks(found: list[Shown], namespace: dict[str, Any], server: ServerProcess) -> None:
    """Run the blocks in order, in one namespace, with ``client`` as the pages say."""
    async with Client(server.url) as namespace["client"]:
        for each in found:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                await run_block(each.code, namespace, server)
            if each.output is not None:
                assert printed.getvalue().splitlines() == each.output, "\n".join(each.code.lines)


async def run_block(block: Block, namespace: dict[str, Any], server: ServerProcess) -> None:
    source = on_server("\n".join(block.lines), server)
    code = compile(source, "guide", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if block.kind != "python" or "asyncio.run(" in source:
        await asyncio.to_thread(exec, code, namespace)
    elif (waiting := eval(code, namespace)) is not None:
        async with asyncio.timeout(PATIENCE):
            await waiting
    if block.kind == "python pytest":
        tests = [namespace.pop(name) for name in [*namespace] if name.startswith("test_")]
        assert tests
        for test in tests:
            await asyncio.to_thread(test)


def on_server(source: str, server: ServerProcess) -> str:
    """Have the code use the server of the test, and Node the package of the client: it imports from no URL."""
    return source.replace("http://localhost:8080/client.js", "pubsub-client").replace(
        "http://localhost:8080", server.url
    )


# JavaScript


@pytest.mark.parametrize("name", [name for name in GUIDES if shown(name, "js")])
def test_javascript_does_what_is_shown(name: str, server: ServerProcess, tmp_path: Path) -> None:
    found = shown(name, "js")
    separator = f'\nconsole.log("{NEXT_BLOCK}");\n'
    source = separator.join("\n".join(each.code.lines) for each in found) + "\nprocess.exit();"
    printed = run_node(on_server(source, server), tmp_path).split(f"{NEXT_BLOCK}\n")
    for each, came in zip(found, printed, strict=True):
        if each.output is not None:
            assert came.splitlines() == each.output, "\n".join(each.code.lines)


def run_node(source: str, folder: Path, *flags: str) -> str:
    """Run a module that finds the package of the client as if it was installed; return what it prints."""
    package = json.loads((STATIC / "package.json").read_text(encoding="utf-8"))["name"]
    (folder / "node_modules").mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (folder / "node_modules" / package).symlink_to(STATIC)
    (folder / "guide.mjs").write_text(source, encoding="utf-8")
    done = subprocess.run(
        [NODE, *flags, "guide.mjs"], cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Code that is only compiled: pages' own scripts, and that of other libraries


@pytest.mark.parametrize("name", GUIDES)
def test_other_code_is_compiled(name: str, tmp_path: Path) -> None:
    for block in blocks(name):
        source = "\n".join(block.lines)
        if block.kind == "python socketio":
            compile(source, name, "exec")
        elif block.kind == "js socketio":
            run_node(source, tmp_path, "--check")
        elif block.kind == "html":
            for script in re.findall(r'<script type="module">(.+?)</script>', source, re.DOTALL):
                run_node(script, tmp_path, "--check")


# Tables, compared with the clients


def test_each_error_of_the_client_is_explained() -> None:
    told = " ".join(row[0] for row in table(section("docs/getting-started/python.md", "Errors"), "Error", "Meaning"))
    kinds = {name for name in errors.__all__ if name[0].isupper()} - {"PubsubError", "Refused"}
    assert set(re.findall(r"`(\w+)`", told)) == kinds


@pytest.mark.parametrize(
    ("method", "heading"), [(Client.subscribe, "What you receive"), (Client.publish, "Publishing")]
)
def test_each_option_of_the_client_is_explained(method: Callable[..., Any], heading: str) -> None:
    text = section("docs/getting-started/python.md", heading)
    keywords = {each.name for each in signature(method).parameters.values() if each.kind is each.KEYWORD_ONLY}
    assert set(re.findall(r"`(\w+)=", " ".join(row[0] for row in table(text, "Option")))) == keywords


def test_each_option_of_a_subscription_in_javascript_is_explained() -> None:
    types = (STATIC / "client.d.ts").read_text(encoding="utf-8")
    (body,) = re.findall(r"^export interface SubscribeOptions.*?\{\n(.+?)^\}", types, re.MULTILINE | re.DOTALL)
    rows = table(section("docs/getting-started/javascript.md", "What you receive"), "Option", "Meaning")
    told = set(re.findall(r"`(\w+): ", " ".join(row[0] for row in rows)))
    assert told == set(re.findall(r"^  (\w+)\??:", body, re.MULTILINE))
