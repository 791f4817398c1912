"""The files of the JavaScript client: types, compression, validators, and the size that the documents promise."""

from __future__ import annotations

import gzip
import json

import pytest

from pubsub import __version__
from pubsub.http.static_files import FOLDER, load_file
from tests.credentials import API_KEYS, SECRET
from tests.harness import on_one_loop, run_server

TYPES = {
    "/client.js": "text/javascript; charset=utf-8",
    "/client-more.js": "text/javascript; charset=utf-8",
    "/client.d.ts": "application/typescript; charset=utf-8",
}
PLAIN = {"Accept-Encoding": "identity"}


@on_one_loop
@pytest.mark.parametrize("path", TYPES)
async def test_a_file_is_for_everybody(path: str) -> None:
    async with run_server(api_keys=API_KEYS, jwt_secret=SECRET) as server:
        async with server.http.get(path, headers=PLAIN) as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == TYPES[path]
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Cache-Control"] == "no-cache"
            assert response.headers["Vary"] == "Accept-Encoding"
            assert response.headers["Server"] == "pubsub"
            body = await response.read()
            assert body == load_file(path[1:]).content
        async with server.http.head(path, headers=PLAIN) as response:
            assert (response.status, await response.read()) == (200, b"")
            assert int(response.headers["Content-Length"]) == len(body)


@on_one_loop
@pytest.mark.parametrize("accepted", ["gzip", "br, gzip;q=0.5", "*", "deflate, X-GZIP ; q=1", "GZip"])
async def test_a_file_is_compressed_if_that_is_accepted(accepted: str) -> None:
    async with run_server() as server:
        headers = {"Accept-Encoding": accepted}
        async with server.http.get("/client.js", headers=headers, auto_decompress=False) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(await response.read()) == load_file("client.js").content


@on_one_loop
@pytest.mark.parametrize("accepted", ["", "br", "gzip;q=0", "gzip; q=0.000, br", "gzipped", "gzip;q=0,*;q=0"])
async def test_a_file_is_plain_otherwise(accepted: str) -> None:
    headers = {"Accept-Encoding": accepted}
    async with run_server() as server, server.http.get("/client.js", headers=headers) as response:
        assert "Content-Encoding" not in response.headers
        assert await response.read() == load_file("client.js").content


@on_one_loop
async def test_a_file_that_is_known_is_not_sent_again() -> None:
    async with run_server() as server:
        async with server.http.get("/client.js") as response:
            etag = response.headers["ETag"]
        for known in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
            async with server.http.get("/client.js", headers={"If-None-Match": known}) as response:
                assert (response.status, await response.read()) == (304, b"")
                assert response.headers["ETag"] == etag
        for known in ('"other"', "nonsense"):
            async with server.http.get("/client.js", headers={"If-None-Match": known}) as response:
                assert response.status == 200


@on_one_loop
@pytest.mark.parametrize("path", ["/client.js/", "/package.json", "/README.md", "/../setup.cfg", "/client%2ejs.py"])
async def test_no_other_file_is_served(path: str) -> None:
    async with run_server() as server, server.http.get(path) as response:
        assert response.status == 404


def test_the_client_has_at_most_6_kib() -> None:
    assert len(load_file("client.js").compressed) <= 6 * 1024


def test_the_package_has_the_version_of_the_server() -> None:
    package = json.loads((FOLDER / "package.json").read_text())
    assert package["version"] == __version__
    assert {"client.js", "client-more.js", "client.d.ts"} == set(package["files"])
