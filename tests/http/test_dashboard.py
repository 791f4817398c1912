"""The files of the dashboard: the page, its scripts and styles, their sizes, and what a client may name."""

from __future__ import annotations

import re
import subprocess

import pytest

from pubsub.http.dashboard import parts
from pubsub.http.static_files import FOLDER, load_file
from tests.harness import REPOSITORY, on_one_loop, run_server
from tests.javascript.node import NODE

PAGE = (FOLDER / "admin" / "page.html").read_text(encoding="utf-8")
SCRIPTS = sorted(path.name for path in (FOLDER / "admin").glob("*.js"))
MOST_BYTES = 120 * 1024  # of script and style, before their compression
MOST_LINES = 250


@on_one_loop
async def test_the_root_leads_to_the_page() -> None:
    async with run_server() as server:
        async with server.http.get("/", allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (302, "admin")
        async with server.http.get("/") as response:
            assert (response.status, response.url.path) == (200, "/admin")
            assert response.content_type == "text/html"
            policy = response.headers["Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert "unsafe" not in policy


@on_one_loop
async def test_every_file_of_the_page_is_served() -> None:
    named = set(re.findall(r'(?:href|src)="([\w./-]+\.\w+)"', PAGE))
    assert {name.rpartition("/")[2] for name in named} >= set(SCRIPTS)
    async with run_server() as server:
        for name in named | {f"admin/files/{name}" for name in parts()}:
            async with server.http.get(f"/{name}") as response:
                assert response.status == 200, name
                etag = response.headers["ETag"]
            async with server.http.get(f"/{name}", headers={"If-None-Match": etag}) as response:
                assert response.status == 304, name


@pytest.mark.parametrize("name", ["nothing.js", "LICENSE-htm", "README.md", "..%2Fclient.js", "%2e%2e", "app.js%00"])
@on_one_loop
async def test_no_other_file_is_served(name: str) -> None:
    async with run_server() as server, server.http.get(f"/admin/files/{name}") as response:
        assert response.status in (400, 404)
        assert "error" in await response.json()


def test_the_page_is_small() -> None:
    """All that any screen loads, as it is served, with the client and the part of it that is needed with a key."""
    files = ["client.js", "client-more.js", *(path for path in parts().values() if path.endswith((".js", ".css")))]
    assert sum(len(load_file(path).content) for path in files) <= MOST_BYTES


def test_modules_are_short_and_say_their_purpose() -> None:
    for name in SCRIPTS:
        lines = (FOLDER / "admin" / name).read_text(encoding="utf-8").splitlines()
        assert len(lines) <= MOST_LINES, name
        assert lines[0].startswith("// "), name


def test_numbers_times_and_faults_in_json_are_told_right() -> None:
    program = REPOSITORY / "tests/http/dashboard_modules.mjs"
    done = subprocess.run([NODE, program, FOLDER / "admin"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_writes_html_or_comes_from_elsewhere() -> None:
    for name in SCRIPTS:
        text = (FOLDER / "admin" / name).read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|https?://", text), name


def test_foreign_files_come_with_their_licences() -> None:
    vendor = FOLDER / "vendor"
    told = (vendor / "README.md").read_text(encoding="utf-8")
    for path in vendor.iterdir():
        assert path.name == "README.md" or path.name.startswith("LICENSE-") or f"`{path.name}`" in told
    assert {path.name for path in vendor.glob("LICENSE-*")} == {"LICENSE-htm", "LICENSE-preact"}
