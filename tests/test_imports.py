"""Imports point one way, and the rules of the program can't do I/O."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pubsub

ROOT = Path(pubsub.__file__).parent

# From the top down. A module imports from lower layers, and from its own layer as long as no circle arises.
LAYERS = [
    ["pubsub.__main__"],
    ["pubsub.app", "pubsub.console", "pubsub.bench", "pubsub.cli.journal"],
    [
        "pubsub.http.topics",
        "pubsub.http.clients",
        "pubsub.http.handshake",
        "pubsub.http.request_handler",
        "pubsub.system.logs",
        "pubsub.settings_reader",
    ],
    ["pubsub.http.listener", "pubsub.http.idle_connections"],
    [
        "pubsub.http.access",
        "pubsub.auth.jwks",
        "pubsub.http.tls",
        "pubsub.websocket.connections",
        "pubsub.websocket.connection",
        "pubsub.websocket.upgrade",
        "pubsub.http.pipeline",
        "pubsub.system.tcp_info",
        "pubsub.settings",
    ],
    ["pubsub.websocket.session"],
    [
        "pubsub.core.broker",
        "pubsub.auth.tokens",
        "pubsub.auth.identity",
        "pubsub.auth.permissions",
        "pubsub.auth.rates",
    ],
    [
        "pubsub.core.journal",
        "pubsub.journals",
        "pubsub.core.catchup",
        "pubsub.core.outbox",
        "pubsub.core.backlog",
        "pubsub.core.topic",
        "pubsub.core.ring",
    ],
    ["pubsub.core.turns"],
    ["pubsub.system.descriptors"],
    ["pubsub.protocol.requests", "pubsub.protocol.frames", "pubsub.core.clock"],
    ["pubsub.protocol.errors"],
    ["pubsub"],
]
WITHOUT_IO = {
    "pubsub.websocket.session",
    "pubsub.core.broker",
    "pubsub.core.topic",
    "pubsub.core.ring",
    "pubsub.core.outbox",
    "pubsub.core.backlog",
    "pubsub.core.turns",
    "pubsub.core.catchup",
    "pubsub.core.journal",
    "pubsub.journals.memory",
    "pubsub.journals.dedup",
    "pubsub.protocol.requests",
    "pubsub.protocol.frames",
    "pubsub.core.clock",
    "pubsub.protocol.errors",
    "pubsub.auth.tokens",
    "pubsub.auth.identity",
    "pubsub.auth.permissions",
    "pubsub.auth.rates",
}
WITH_AIOHTTP = {
    "pubsub.app",
    "pubsub.http.topics",
    "pubsub.http.clients",
    "pubsub.http.handshake",
    "pubsub.http.request_handler",
    "pubsub.http.access",
    "pubsub.auth.jwks",
    "pubsub.websocket.upgrade",
    "pubsub.http.pipeline",
    "pubsub.console",
    "pubsub.bench",
}
IO = {"asyncio", "aiohttp", "socket", "selectors", "uvloop", "threading", "subprocess"}


def modules() -> list[str]:
    return sorted(module_name(path) for path in ROOT.rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


def source_of(module: str) -> ast.Module:
    path = ROOT.parent.joinpath(*module.split("."))
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())


def imports_of(module: str, *, at_runtime: bool) -> Iterator[str]:
    """The modules that ``module`` imports anywhere; those for type checkers alone only if not ``at_runtime``."""
    todo: list[ast.AST] = [source_of(module)]
    while todo:
        node = todo.pop()
        if at_runtime and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            assert node.module, f"{module}: an import from nothing"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module
        todo += ast.iter_child_nodes(node)


MODULES = modules()


def unit_of(module: str) -> str:
    """The module or the folder that has a place in LAYERS."""
    known = [name for layer in LAYERS for name in layer if module == name or module.startswith(f"{name}.")]
    assert known, f"{module} has no place in the layers"
    return max(known, key=len)


def layer_of(module: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if unit_of(module) in layer)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    for imported in imports_of(module, at_runtime=False):
        if imported.startswith("pubsub"):
            assert layer_of(imported) >= layer_of(module), f"{module} imports {imported}, which stands above it"


def test_no_circle_of_imports() -> None:
    arrows = {module: {name for name in imports_of(module, at_runtime=True) if name in MODULES} for module in MODULES}
    while arrows:
        ends = {module for module, imported in arrows.items() if not imported & arrows.keys() - {module}}
        assert ends, f"a circle among {sorted(arrows)}"
        for module in ends:
            del arrows[module]


@pytest.mark.parametrize("module", [module for module in MODULES if unit_of(module) in WITHOUT_IO])
def test_the_rules_of_the_program_do_no_io(module: str) -> None:
    assert not {imported.partition(".")[0] for imported in imports_of(module, at_runtime=False)} & IO
    assert not [node for node in ast.walk(source_of(module)) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]


@pytest.mark.parametrize("module", [module for module in MODULES if unit_of(module) not in WITH_AIOHTTP])
def test_aiohttp_stays_at_the_edge(module: str) -> None:
    assert "aiohttp" not in {imported.partition(".")[0] for imported in imports_of(module, at_runtime=False)}
