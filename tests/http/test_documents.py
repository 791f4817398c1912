"""The documents over HTTP: for everybody, made once, not sent again if unchanged, and no part of an idle server."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading

import pytest

from pubsub.documents.asyncapi import make_asyncapi
from pubsub.documents.making import MAKERS
from pubsub.documents.openapi import make_openapi
from pubsub.http.documents import DOCUMENTS, Documents
from tests.credentials import API_KEYS, SECRET
from tests.harness import REPOSITORY, clean_environment, on_one_loop, run_server

TYPES = {"openapi.json": "application/json", "asyncapi.json": "application/json", "docs": "text/html"}


async def test_they_are_those_of_the_code() -> None:
    async with run_server(api_keys=API_KEYS, jwt_secret=SECRET) as server:
        assert await server.get("/openapi.json") == make_openapi()
        assert await server.get("/asyncapi.json") == make_asyncapi()
        async with server.http.get("/docs") as response:
            assert (response.status, response.content_type) == (200, "text/html")
            assert (await response.text()).startswith("<!DOCTYPE html>")


@on_one_loop
async def test_a_browser_lets_the_page_do_nothing() -> None:
    async with run_server() as server, server.http.get("/docs") as response:
        policy = dict(
            part.strip().partition(" ")[::2] for part in response.headers["Content-Security-Policy"].split(";")
        )
        assert policy.pop("style-src") == "'self'"
        assert set(policy.values()) == {"'none'"}
        assert policy.keys() == {"default-src", "base-uri", "form-action", "frame-ancestors"}


@pytest.mark.parametrize("name", TYPES)
@on_one_loop
async def test_one_is_made_once_and_not_sent_again(name: str) -> None:
    made: list[str] = []

    def make(asked: str) -> bytes:
        assert threading.current_thread() is not threading.main_thread(), "other clients would wait"
        made.append(asked)
        return b"<content>"

    async with run_server() as server:
        vars(server.app[DOCUMENTS]).update(vars(Documents(make)))
        async with server.http.get(f"/{name}", headers={"Accept-Encoding": "identity"}) as response:
            assert (response.status, response.content_type) == (200, TYPES[name])
            assert await response.read() == b"<content>"
            etag = response.headers["ETag"]
        async with server.http.get(f"/{name}", headers={"If-None-Match": etag}) as response:
            assert (response.status, await response.read()) == (304, b"")
        async with server.http.head(f"/{name}") as response:
            assert response.status == 200
        assert made == [name]


@on_one_loop
async def test_they_are_compressed() -> None:
    async with (
        run_server() as server,
        server.http.get("/openapi.json", headers={"Accept-Encoding": "gzip"}, auto_decompress=False) as response,
    ):
        assert response.headers["Content-Encoding"] == "gzip"
        content = await response.read()
        assert len(content) < 16_000
        assert json.loads(gzip.decompress(content)) == make_openapi()


def test_each_has_its_maker() -> None:
    assert MAKERS.keys() == TYPES.keys()


def test_a_server_that_nobody_asks_has_not_imported_them() -> None:
    code = "import sys, pubsub.app; print([name for name in sys.modules if name.startswith('pubsub.documents')])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
