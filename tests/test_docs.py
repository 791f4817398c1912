"""The documentation, compared with the program, so that it stays true: commands, examples, tables, links."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import Field, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

import aiohttp
import msgspec
import pytest
from msgspec.structs import FieldInfo

from pubsub.__main__ import COMMANDS
from pubsub.app import create_app
from pubsub.cli.outbox import DSN_VARIABLE
from pubsub.client.credentials import API_KEY_VARIABLE, TOKEN_VARIABLE
from pubsub.client.flags import URL_VARIABLE
from pubsub.filters import cel, views
from pubsub.filters.expressions import MAX_COSTLY
from pubsub.filters.filters import MAX_PARAMS, Filters, Subject
from pubsub.filters.regexes import MAX_SIZE
from pubsub.protocol.calls import MAX_PAGE
from pubsub.protocol.errors import CloseReason, Failure
from pubsub.protocol.replies import Event, HistoryReply, Info, Reply, encode
from pubsub.protocol.requests import (
    MAX_CLIENT_ID,
    MAX_HISTORY_LIMIT,
    MAX_MESSAGES,
    MAX_REQUEST_ID,
    AnyRequest,
    decode_request,
)
from pubsub.settings import LIVE, Settings
from pubsub.settings_reader import read_settings
from tests.harness import (
    PATIENCE,
    REPOSITORY,
    Client,
    ForkedServer,
    ServerProcess,
    clean_environment,
    make_settings,
    on_one_loop,
)

PACKAGE = REPOSITORY / "pubsub"
SERVER = [path for path in PACKAGE.rglob("*.py") if not {"console", "bench", "client", "outbox"} & set(path.parts)]
PLACES = ("*.md", "docs/**/*.md", "examples/README.md")
DOCS = [str(path.relative_to(REPOSITORY)) for place in PLACES for path in sorted(REPOSITORY.glob(place))]
LOOPS = {"uvloop", "asyncio"}  # the ends of the names of tests that run on both


# Words that only this project would understand, and the field's terms for them (docs/design.md, Glossary).
def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``kind`` is the text after the opening fence."""

    kind: str
    lines: list[str]

    @property
    def is_session(self) -> bool:
        """True if the block is a dialogue with the server: ``>`` marks typed lines and ``<`` received ones."""
        return self.kind == "text" and any(line.startswith("> {") for line in self.lines)


def blocks(name: str) -> list[Block]:
    fenced = re.findall(r"^( *)```(.*)\n([\s\S]*?)^\1```$", read(name), re.MULTILINE)
    return [Block(kind, [line.removeprefix(indent) for line in text.splitlines()]) for indent, kind, text in fenced]


def section(name: str, *headings: str) -> str:
    """Return the text below a heading of level two, or below a heading of level three inside it."""
    text = read(name)
    for rank, heading in enumerate(headings, 2):
        found = re.search(
            rf"^{'#' * rank} {re.escape(heading)}$([\s\S]*?)(?=^#{{2,{rank}}} |\Z)", text, flags=re.MULTILINE
        )
        assert found is not None, f"{name} has no heading {heading!r} at the expected place"
        text = found[1]
    return text


def table(text: str, *header: str) -> list[list[str]]:
    """Return the cells of the rows below the first header that begins with these columns."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("|") and tuple(cells(line)[: len(header)]) == header:
            next(lines)  # the line of dashes below it
            return list(_rows(lines))
    raise AssertionError(f"no table begins with {header}")


def _rows(lines: Iterator[str]) -> Iterator[list[str]]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield cells(line)


def cells(row: str) -> list[str]:
    """Return the cells of a row; ``\\|`` is a bar inside of one."""
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def names(rows: list[list[str]]) -> list[str]:
    """Return the texts in backticks in the first column."""
    return [row[0].strip("`") for row in rows]


# Commands, sessions, links


@pytest.mark.parametrize(
    "name", [name for name in DOCS if any(each.kind == "console" or each.is_session for each in blocks(name))]
)
@on_one_loop
async def test_commands_and_sessions_do_what_is_shown(name: str, tmp_path: Path) -> None:
    with ForkedServer("--data-dir", str(tmp_path)) as server:
        for block in blocks(name):
            if block.kind == "console":
                run_block(block, server, tmp_path)
            elif block.is_session:
                await play(block, server)


def run_block(block: Block, server: ServerProcess, folder: Path) -> None:
    prompt, *parts = re.split(r"^\$ ", "\n".join(block.lines), flags=re.MULTILINE)
    assert not prompt, "a console block begins with a command"
    for part in parts:
        command, _, output = part.partition("\n")
        assert masked(run(command, server, folder)) == masked(output), command


def run(command: str, server: ServerProcess, folder: Path) -> str:
    """Run a command for a server on another port than the default one, with the interpreter of these tests."""
    environment = {"PORT": str(server.port), "PUBSUB_URL": server.url, "PYTHONPATH": str(REPOSITORY)}
    command = on_port(command, server.port).replace("pubsub client", f"pubsub client --url {server.url}")
    done = subprocess.run(
        ["bash", "-ec", command.replace(".venv/bin/python", shlex.quote(sys.executable))],
        cwd=folder, env=clean_environment() | environment, timeout=PATIENCE,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, command + done.stdout + done.stderr
    return done.stdout


def on_port(text: str, port: int) -> str:
    return text.replace("127.0.0.1:8080", f"127.0.0.1:{port}")


def masked(text: str) -> str:
    """Remove values that change in each run, and the line ends that curl does not write."""
    text = re.sub(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", "<id>", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>", text)
    text = re.sub(r'"epoch":"\w+"', '"epoch":"<epoch>"', text)
    text = re.sub(r'"uptime_sec":\d+', '"uptime_sec":0', text)
    return text.strip()


async def play(block: Block, server: ServerProcess) -> None:
    """Send the typed lines, and compare the received ones."""
    command, greeting, *lines = block.lines
    url = command.split()[-1].strip("'")
    assert command == f"$ .venv/bin/python -m websockets '{url}'"
    assert greeting == f"Connected to {url}."
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(on_port(url, server.port), autoping=False) as websocket,
    ):
        client = Client(websocket)
        for line in lines:
            if line.startswith("> "):
                await client.send(line[2:])
            else:
                came = json.dumps(await client.receive(), separators=(",", ":"))
                assert masked(f"< {came}") == masked(line)


def test_foreign_client_is_in_the_developers_environment() -> None:
    assert re.search(r"^websockets==", read("requirements-dev.lock"), re.MULTILINE)


def test_verbs_and_commands_exist() -> None:
    texts = "\n".join(map(read, DOCS))
    verbs = set(re.findall(r"^([a-z]+):.*##", read("Makefile"), re.MULTILINE))
    assert {"run", "test"} <= set(re.findall(r"(?:^ *|`)make ([a-z]+)", texts, re.MULTILINE)) <= verbs
    assert set(re.findall(r"`pubsub ([a-z]+)", texts)) == set(COMMANDS)


def test_commands_for_contributors_name_what_exists() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py"))
    for arguments in re.findall(r'^make \w+ ARGS="(.+?)"', read("CONTRIBUTING.md"), re.MULTILINE):
        words = shlex.split(arguments)
        chosen = [name for flag, name in pairwise(words) if flag == "-k"]
        assert all((REPOSITORY / word).exists() for word in words if "/" in word), arguments
        assert all(name in LOOPS or name in tests for name in chosen), arguments


@pytest.mark.parametrize("name", DOCS)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", read(name)):
        path, _, anchor = target.partition("#")
        file = ((REPOSITORY / name).parent / path).resolve() if path else REPOSITORY / name
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def anchors(file: Path) -> set[str]:
    """Return the anchors of a file's headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE):
        found.append(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return {f"{each}-{found[:at].count(each)}" if each in found[:at] else each for at, each in enumerate(found)}


def test_names_in_capitals_exist() -> None:
    known = {each.name.upper() for each in fields(Settings)} | {each.code for each in Failure.__subclasses__()}
    known |= {"GIN_MODE", "LISTEN_FDS", "LISTEN_PID", "SSL_CERT_FILE", URL_VARIABLE, TOKEN_VARIABLE, API_KEY_VARIABLE}
    known |= {DSN_VARIABLE}
    for name in DOCS:
        assert set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", read(name))) <= known, name


def test_changelog_has_a_section_for_what_comes() -> None:
    assert section("CHANGELOG.md", "[Unreleased]")


# docs/protocol.md


def test_errors_are_those_of_the_code() -> None:
    told = [(code.strip("`"), fate) for code, _, fate in table(section("docs/protocol.md", "Errors"), "Code", "When")]
    seen = {each.code for each in Failure.__subclasses__() if each.by_websocket}
    assert sorted(code for code, _ in told) == sorted(seen)
    ends = {each.code: each.close_reason.code for each in failures() if each.close_reason is not None}
    assert {code for code, fate in told if fate != "stays"} == set(ends)
    assert all(f"with {ends[code]}" in fate for code, fate in told if code in ends)


def failures() -> Iterator[type[Failure]]:
    for each in Failure.__subclasses__():
        yield from (each, *each.__subclasses__())


def test_close_codes_are_those_of_the_code() -> None:
    told = names(table(section("docs/protocol.md", "Close codes"), "Code", "Meaning", "What to do"))
    assert told == ["1000", *(str(code) for code in sorted({each.code for each in CloseReason}))], (
        "1000 is the client's own"
    )


def test_statuses_of_failures_are_told() -> None:
    told = names(table(section("docs/protocol.md", "REST"), "Status", "Meaning"))
    assert {str(each.status) for each in Failure.__subclasses__()} <= set(told)


@on_one_loop
async def test_routes_are_those_of_the_application() -> None:
    routes = create_app(make_settings()).router.routes()
    served = [f"{each.method} {each.resource.canonical}" for each in routes if each.resource and each.method != "HEAD"]
    assert sorted(names(table(section("docs/protocol.md", "REST"), "Call", "Answer"))) == sorted(served)


def examples(kind: str) -> list[str]:
    """Return the lines of all blocks of that kind: each line is a message."""
    return [line for name in DOCS for block in blocks(name) if block.kind == kind for line in block.lines]


def test_json_is_json() -> None:
    lines = [line for name in DOCS for block in blocks(name) if block.kind.startswith("json") for line in block.lines]
    assert lines
    for line in lines:
        json.loads(line)


def test_requests_are_accepted() -> None:
    shown = [decode_request(line) for line in examples("json client")]
    assert {type(each) for each in shown} == set(get_args(AnyRequest))


def test_replies_have_the_shape_of_the_code() -> None:
    shown = {line: decode_reply(line) for line in examples("json server")}
    for reply in shown.values():
        for event in reply.messages if isinstance(reply, HistoryReply) else ():
            assert json.loads(encode(msgspec.json.decode(event, type=Event))) == json.loads(bytes(event))
    assert {type(each) for each in shown.values()} == set(get_args(Reply))
    assert {each.msg for each in shown.values() if isinstance(each, Info)} == infos()


def decode_reply(line: str) -> Reply:
    """Decode ``line`` into the server's type for it: of several kinds of ack, the one that has all its fields."""
    for kind in get_args(Reply):
        with contextlib.suppress(msgspec.ValidationError):
            reply: Reply = msgspec.json.decode(line, type=kind)
            if json.loads(encode(reply)) == json.loads(line):
                return reply
    raise AssertionError(f"no reply looks like {line}")


def infos() -> set[str]:
    """Return each ``msg`` in the server's code."""
    sources = "".join(path.read_text(encoding="utf-8") for path in SERVER)
    return set(re.findall(r'\bInfo\([^)]*?msg="(\w+)"', sources))


def test_infos_are_explained() -> None:
    assert set(names(table(section("docs/protocol.md", "Messages from the server", "`info`"), "`msg`"))) == infos()


@pytest.mark.parametrize("kind", get_args(AnyRequest))
def test_fields_of_requests_are_explained(kind: type[msgspec.Struct]) -> None:
    header = ("Field", "Type", "Required", "Meaning")
    common = names(table(section("docs/protocol.md", "Requests"), *header))
    assert common == ["type", "request_id"]
    own = {name: "yes" if field.required else "no" for name, field in fields_of(kind) if name not in common}
    if own:
        rows = table(section("docs/protocol.md", "Requests", f"`{tag(kind)}`"), *header)
        assert {name.strip("`"): required for name, _, required, _ in rows} == own


@pytest.mark.parametrize("kind", get_args(Reply))
def test_fields_of_replies_are_explained(kind: type[msgspec.Struct]) -> None:
    text = section("docs/protocol.md", "Messages from the server", f"`{tag(kind)}`")
    told = names(table(text, "Field", "Type", "Meaning"))
    alike = [each for each in get_args(Reply) if tag(each) == tag(kind)]
    assert sorted(told) == sorted({name for each in alike for name, _ in fields_of(each)})


def tag(kind: type[msgspec.Struct]) -> str:
    return str(kind.__struct_config__.tag)


def fields_of(kind: type[msgspec.Struct]) -> Iterator[tuple[str, FieldInfo]]:
    """Return a message's fields; fields of inner objects by their path."""
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from ((f"{field.encode_name}.{name}", inner) for name, inner in fields_of(field.type))
        else:
            yield field.encode_name, field


def test_limits_are_those_of_the_code() -> None:
    rows = table(section("docs/protocol.md", "Names and sizes"), "What", "Limit")
    told = {what.strip("`"): limit for what, limit in rows}
    assert told["client_id"] == f"1 to {MAX_CLIENT_ID} characters"
    assert told["request_id"] == f"at most {MAX_REQUEST_ID} characters"
    assert told["limit` of a `history"] == f"{MAX_HISTORY_LIMIT:,} messages"
    assert told["a list of messages over REST"] == f"{MAX_MESSAGES:,} messages"
    assert told["a page of topics"] == f"{MAX_PAGE:,} topics"


# docs/operation.md and .env.example


def test_settings_table_is_that_of_the_code() -> None:
    rows = table(section("docs/operation.md", "Settings"), "Name", "Default", "Range", "Meaning")
    assert names(rows) == [each.name.upper() for each in fields(Settings)]
    for field, (_, default, allowed, _) in zip(fields(Settings), rows, strict=True):
        assert default.startswith(f"`{field.default}`" if field.default != "" else "empty"), field.name
        assert set(re.findall(r"[\d,]*\d|(?<=`)\w+(?=`)", allowed)) == range_of(field), field.name
        assert ("above" in allowed) == ("gt" in field.metadata["rules"]), field.name


def range_of(field: Field[Any]) -> set[str]:
    """Return the required text of the column of ranges: the bounds, or each choice."""
    bounds = {f"{value:,}" for rule, value in field.metadata["rules"].items() if rule in ("ge", "gt", "le")}
    kind = get_type_hints(Settings)[field.name]
    return bounds | {choice for part in get_args(kind) for choice in (get_args(part) or (part,)) if choice}


SETTING = re.compile(r"^#([A-Z_]+)=(.*)$", re.MULTILINE)
ALL_SETTINGS, *_named = re.split(r"^# == (.+) ==$", read(".env.example"), flags=re.MULTILINE)
SCENARIOS = dict(zip(_named[::2], _named[1::2], strict=True))


def test_env_example_has_every_setting_with_its_default() -> None:
    explained = re.findall(r"^# .+\n#([A-Z_]+)=(.*)$", ALL_SETTINGS, re.MULTILINE)
    assert explained == SETTING.findall(ALL_SETTINGS)
    others = [each for each in fields(Settings) if each.name != "env_file"]  # the name of the file itself
    assert explained == [(each.name.upper(), str(each.default)) for each in others]


def test_env_example_changes_nothing_as_it_is() -> None:
    assert not re.search(r"^[^#\n]", read(".env.example"), re.MULTILINE)


@pytest.mark.parametrize("block", SCENARIOS.values(), ids=SCENARIOS)
def test_scenario_is_accepted(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(SETTING.sub(r"\1=\2", block), encoding="utf-8")
    settings = read_settings([])
    chosen = SETTING.findall(block)
    assert chosen == [(name, str_of(getattr(settings, name.lower()))) for name, _ in chosen]
    assert len(dict(chosen)) == len(chosen)
    assert settings.drain_sec + settings.shutdown_timeout_sec < 30, "the supervisors wait for 30 seconds"
    assert settings.pong_wait_sec >= 2 * settings.ping_period_sec


def str_of(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_metrics_in_the_recipes_exist() -> None:
    known = set(re.findall(r"`(pubsub_\w+|process_\w+)`", section("docs/operation.md", "Metrics")))
    used = set(re.findall(r"`(pubsub_\w+|process_\w+)", section("docs/operation.md", "When something is wrong")))
    assert used
    assert used <= known


def test_live_settings_are_those_of_the_code() -> None:
    rows = table(section("docs/operation.md", "Changing settings without a restart"), "Setting", "Effect")
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert told == {name.upper() for name in LIVE}


def test_scenarios_are_explained() -> None:
    headings = re.findall(r"^### (.+)$", section("docs/operation.md", "Scenarios"), re.MULTILINE)
    assert [each.lower() for each in headings] == list(SCENARIOS)
    assert len(headings) == 5


def test_log_lines_are_those_of_the_code() -> None:
    check_log_lines(section("docs/operation.md", "Logs"), SERVER)


def check_log_lines(text: str, paths: Iterable[Path]) -> None:
    """Check that the table in ``text`` has the log lines in the code of ``paths``, and no others."""
    rows = table(text, "Level", "Line", "When")
    told = {line.strip("`"): level for level, line, _ in rows}
    spelled = [
        (level, re.compile(re.sub(r"%\\\(\w+\\\)[\w.\\]*?[sdf]", ".+", re.escape(text))))
        for level, text in log_calls(paths)
    ]
    for level, pattern in spelled:
        assert any(pattern.fullmatch(line) and told[line] == level for line in told), (level, pattern)
    for line, level in told.items():
        assert any(pattern.fullmatch(line) and level == each for each, pattern in spelled), line


def log_calls(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Return the level and text of each log line in the code of ``paths``. A line without a constant text fails."""
    levels = {"debug": "debug", "info": "info", "warning": "warn"}
    levels |= dict.fromkeys(("error", "exception", "critical"), "error")
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Name(id="log" | "logger") | ast.Attribute(attr="log" | "logger"), attr=method
                    )
                ) if method in levels:
                    assert node.args, ast.unparse(node)
                    assert isinstance(node.args[0], ast.Constant), ast.unparse(node)
                    yield levels[method], str(node.args[0].value)
                case ast.Assign(targets=[ast.Name(name)], value=ast.Call(func=made)) if "getLogger" in ast.unparse(
                    made
                ):
                    assert name in ("log", "logger"), f"{path}: a name that the case above does not know"


# docs/security.md


def test_tests_that_are_named_exist() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", read("docs/security.md")))
    assert named
    assert not {name for name in named if f"def {name}(" not in tests}


# docs/filters.md


def filter_examples() -> list[list[str]]:
    return table(section("docs/filters.md", "Examples"), "Filter", "Payload", "Matches")


@pytest.mark.parametrize(("text", "payload", "told"), filter_examples())
def test_examples_of_filters_match_as_they_say(text: str, payload: str, told: str) -> None:
    event = b'{"topic":"t","message":{"id":"m","payload":%b}}' % payload.strip("`").encode()
    matches = Filters().compile(text.strip("`")).matches(Subject(event))
    assert told.partition(":")[0] == ("yes" if matches else "no")


def test_limits_of_filters_are_those_of_the_code() -> None:
    told = dict(table(section("docs/filters.md", "Limits"), "Limit", "Value"))
    limits = [int(re.match(r"[\d,]+", value)[0].replace(",", "")) for value in told.values()]  # type: ignore[index]
    assert limits == [cel.MAX_TEXT, 32, MAX_PARAMS, views.MAX_BYTES, views.MAX_VALUES, MAX_COSTLY, MAX_SIZE]
    assert f"{views.MAX_BYTES_COSTLY:,} bytes" in "".join(told.values())


# docs/design.md


def test_every_folder_is_in_the_table_of_layers() -> None:
    text = section("docs/design.md", "Layers")
    told = re.findall(r"`(\w+)/`", "".join(re.findall(r"^\| (`\w+/`.*?) \|", text, re.MULTILINE)))
    folders = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    assert {*folders} <= {*told}
