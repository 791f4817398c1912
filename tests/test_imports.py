"""Imports of the package: they point one way, and the core cannot do I/O."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import pubsub

ROOT = Path(pubsub.__file__).parent

# Each folder, and the folders below it that it may import; each module at the top has its own line.
# `system` is beside the layers: all folders except filters, core, protocol and auth may import it.
BELOW = {
    "pubsub.protocol": set[str](),
    "pubsub.filters": {"pubsub.protocol"},
    "pubsub.core": {"pubsub.filters", "pubsub.protocol"},
    "pubsub.auth": {"pubsub.protocol"},
    "pubsub.system": set[str](),
    "pubsub.journals": {"pubsub.core", "pubsub.protocol", "pubsub.system"},
    "pubsub.cluster": {"pubsub.core", "pubsub.auth", "pubsub.protocol"},
    "pubsub.websocket": {"pubsub.core", "pubsub.filters", "pubsub.auth", "pubsub.protocol", "pubsub.system"},
    "pubsub.settings": set[str](),
    "pubsub.settings_shown": {"pubsub.settings", "pubsub.protocol"},
    "pubsub.rules_reader": {"pubsub.core", "pubsub.protocol"},
    "pubsub.env_file": {"pubsub.settings"},
    "pubsub.settings_reader": {
        "pubsub.settings",
        "pubsub.env_file",
        "pubsub.rules_reader",
        "pubsub.auth",
        "pubsub.http",
        "pubsub.system",
    },
}
BELOW["pubsub.sse"] = {"pubsub.websocket", *BELOW["pubsub.websocket"]}
BELOW["pubsub.metrics"] = {"pubsub.websocket", *BELOW["pubsub.websocket"]}
BELOW["pubsub.http"] = {"pubsub.sse", "pubsub.metrics", "pubsub.cluster", *BELOW["pubsub.sse"]}
BELOW["pubsub.documents"] = {"pubsub", "pubsub.http", *BELOW["pubsub.http"]}
BELOW["pubsub.live"] = {"pubsub.settings", "pubsub.rules_reader", "pubsub.http", *BELOW["pubsub.http"]}
BELOW["pubsub.wanted_settings"] = {"pubsub.settings"}
BELOW["pubsub.reloading"] = {"pubsub.live", "pubsub.wanted_settings", *BELOW["pubsub.live"]}
BELOW["pubsub.listening"] = {"pubsub.settings", "pubsub.http", "pubsub.system"}
BELOW["pubsub.lifecycle"] = {"pubsub.reloading", "pubsub.listening", *BELOW["pubsub.reloading"]}
BELOW["pubsub"] = set()
BELOW["pubsub.app"] = {
    "pubsub",
    "pubsub.lifecycle",
    "pubsub.documents",
    "pubsub.journals",
    "pubsub.settings_shown",
    *BELOW["pubsub.lifecycle"],
}
BELOW["pubsub.workers"] = {"pubsub.wanted_settings", "pubsub.listening", *BELOW["pubsub.listening"]}
# The process of a worker is the whole server; its supervisor is not, and has none of its memory.
BELOW["pubsub.workers.served"] = {"pubsub.workers", "pubsub.live", "pubsub.reloading", *BELOW["pubsub.reloading"]}
BELOW["pubsub.workers.process"] = {"pubsub.workers", "pubsub.workers.served", "pubsub.app", *BELOW["pubsub.app"]}
BELOW["pubsub.client"] = {"pubsub.protocol"}
# The one module of the clients that knows the server: users test their programs with the real one, in their process.
BELOW["pubsub.client.testing"] = {"pubsub.client", "pubsub.app", "pubsub.settings_reader", *BELOW["pubsub.app"]}
BELOW["pubsub.console"] = {"pubsub.client"}
BELOW["pubsub.bench"] = {"pubsub.client"}
BELOW["pubsub.outbox"] = {"pubsub.client", "pubsub.protocol"}
BELOW["pubsub.cli"] = {
    "pubsub.client",
    "pubsub.outbox",
    "pubsub.console",
    "pubsub.settings",
    "pubsub.settings_reader",
    "pubsub.auth",
    *BELOW["pubsub.app"],
}
BELOW["pubsub.verify"] = {"pubsub.cli", *BELOW["pubsub.cli"]}
BELOW["pubsub.__main__"] = {
    "pubsub.workers",
    "pubsub.app",
    "pubsub.client",
    "pubsub.console",
    "pubsub.bench",
    "pubsub.verify",
    "pubsub.cli",
    *BELOW["pubsub.cli"],
}

RULES = {"pubsub.protocol", "pubsub.filters", "pubsub.core", "pubsub.auth"}  # the folders without I/O
WITHOUT_IO = {
    "pubsub.cluster.bus",
    "pubsub.cluster.copies",
    "pubsub.cluster.counts",
    "pubsub.cluster.members",
    "pubsub.cluster.presence",
    "pubsub.cluster.quotas",
    "pubsub.cluster.shared_counts",
    "pubsub.websocket.session",
    "pubsub.websocket.publisher",
    "pubsub.websocket.grants",
    "pubsub.journals.memory",
    "pubsub.journals.dedup",
    "pubsub.journals.placing",
    "pubsub.journals.redis.moments",
    "pubsub.journals.shared.asking",
    "pubsub.journals.shared.choice",
    "pubsub.journals.shared.following",
    "pubsub.journals.shared.freshness",
    "pubsub.journals.shared.gathering",
    "pubsub.journals.shared.healing",
    "pubsub.journals.shared.inbox",
    "pubsub.journals.shared.journal",
    "pubsub.journals.shared.log",
    "pubsub.journals.shared.renewals",
    "pubsub.journals.shared.telling",
    "pubsub.journals.redis.address",
    "pubsub.journals.redis.batches",
    "pubsub.journals.redis.checks",
    "pubsub.journals.redis.wire",
    "pubsub.journals.state",
    "pubsub.client.arguments",
    "pubsub.client.conversation",
    "pubsub.client.errors",
    "pubsub.client.events",
    "pubsub.client.exchange",
    "pubsub.client.feed",
    "pubsub.client.heartbeat",
    "pubsub.client.host",
    "pubsub.client.inbox",
    "pubsub.client.interest",
    "pubsub.client.mending",
    "pubsub.client.outcomes",
    "pubsub.client.pacing",
    "pubsub.client.pauses",
    "pubsub.client.payloads",
    "pubsub.client.positions",
    "pubsub.client.publishes",
    "pubsub.client.reconnects",
    "pubsub.client.refusals",
    "pubsub.client.stalls",
    "pubsub.client.states",
    "pubsub.client.subscriptions",
    "pubsub.outbox.errors",
    "pubsub.outbox.holds",
    "pubsub.outbox.rows",
    "pubsub.outbox.schema",
}  # beside them
WITH_IO = {"pubsub.auth.jwks"}  # in them
WITH_AIOHTTP = {"pubsub.app", "pubsub.lifecycle", "pubsub.live", "pubsub.reloading", "pubsub.http",
                "pubsub.workers.process", "pubsub.workers.served",
                "pubsub.auth.jwks", "pubsub.websocket.upgrade",
                "pubsub.client", "pubsub.console", "pubsub.bench"}  # fmt: skip
IO = {"aiohttp", "asyncio", "concurrent", "multiprocessing", "os", "pathlib", "selectors", "shutil", "socket",
      "sqlite3", "ssl", "subprocess", "tempfile", "threading", "uvloop"}  # fmt: skip


def modules() -> list[str]:
    return sorted(module_name(path) for path in ROOT.rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


@cache
def source_of(module: str) -> ast.Module:
    path = ROOT.parent.joinpath(*module.split("."))
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())


@cache
def imports_of(module: str, *, at_runtime: bool) -> frozenset[str]:
    """Return all modules that ``module`` imports; imports only for type checkers are left out if ``at_runtime``."""
    return frozenset(find_imports(module, at_runtime=at_runtime))


def find_imports(module: str, *, at_runtime: bool) -> Iterator[str]:
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
                yield inner if inner in KNOWN else node.module
        todo += ast.iter_child_nodes(node)


MODULES = modules()
KNOWN = frozenset(MODULES)


def unit_of(module: str) -> str:
    """Return the folder or the module that has a line in BELOW; a module without a line is an error."""
    unit = module if module in BELOW else ".".join(module.split(".")[:2])
    assert unit in BELOW, f"{module} has no place in the layers"
    return unit


def is_any(module: str, names: Iterable[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def test_imports_point_down() -> None:
    upward: list[str] = []
    for module in MODULES:
        unit = unit_of(module)
        for imported in imports_of(module, at_runtime=False):
            if imported.partition(".")[0] == "pubsub":
                below = unit_of(imported)
                if below != unit and below not in BELOW[unit]:
                    upward.append(f"{module} imports {imported}, which is not below it")
    assert not upward, "\n".join(upward)


@pytest.mark.parametrize("at_runtime", [True, False], ids=["at run time", "for type checkers too"])
def test_no_circle_of_imports(at_runtime: bool) -> None:
    arrows = {module: set(imports_of(module, at_runtime=at_runtime)) & set(MODULES) for module in MODULES}
    while arrows:
        ends = {module for module, imported in arrows.items() if not imported & arrows.keys() - {module}}
        assert ends, f"a cycle among {sorted(arrows)}"
        for module in ends:
            del arrows[module]


def does_no_io(module: str) -> bool:
    return is_any(module, WITHOUT_IO) or (is_any(module, RULES) and not is_any(module, WITH_IO))


def importers_of(packages: Iterable[str], among: Iterable[str]) -> list[str]:
    """The modules that import one of the packages, also if only for type checkers."""
    return [
        module
        for module in among
        if not {each.partition(".")[0] for each in imports_of(module, at_runtime=False)}.isdisjoint(packages)
    ]


def is_async(module: str) -> bool:
    return any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(source_of(module)))


def test_the_rules_of_the_program_do_no_io() -> None:
    rules = [module for module in MODULES if does_no_io(module)]
    assert importers_of(IO, rules) == []
    assert [module for module in rules if is_async(module)] == []


def test_aiohttp_stays_at_the_edge() -> None:
    assert importers_of({"aiohttp"}, [module for module in MODULES if not is_any(module, WITH_AIOHTTP)]) == []
