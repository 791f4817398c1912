"""Malformed HTTP: odd methods, names, fields, lengths, chunks and encodings, each with its status.

Every error is the contract's JSON, none is a 500, and the log of debug mode has no unescaped text.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
from collections.abc import Iterator

import pytest

from tests.harness import ForkedServer, RawClient, ServerProcess, on_one_loop

LARGEST = 65_536  # MAX_MESSAGE_BYTES in these tests
BODY = b'{"name":"here"}'
BOMB = gzip.compress(b" " * 20_000_000)

Case = tuple[bytes, int | set[int]]


def get(target: str = "/health", fields: str = "Host: x\r\n", *, method: str = "GET", version: str = "1.1") -> bytes:
    return f"{method} {target} HTTP/{version}\r\n{fields}\r\n".encode("latin-1")


def post(fields: str, body: bytes) -> bytes:
    return get("/topics", f"Host: x\r\n{fields}\r\n", method="POST") + body


def encoded(coding: str, body: bytes) -> bytes:
    return post(f"Content-Encoding: {coding}\r\nContent-Length: {len(body)}", body)


def chunked(body: bytes) -> bytes:
    return post("Transfer-Encoding: chunked", body)


METHODS: dict[str, Case] = {
    **{f"{method!r:.9}": (get(method=method), 400) for method in ("BREW", "get", "G@T", "", "X" * 100_000)},
    **{method: (get(method=method), 405) for method in ("PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE")},
    "CONNECT": (get("x:80", method="CONNECT"), {400, 404}),
    "OPTIONS *": (get("*", method="OPTIONS"), 404),
    "PRI": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "POST /ws": (get("/ws", method="POST"), 405),
}
NAMES = (
    "%00",
    "%2f",
    "a%2fb",
    "%ff",
    "%",
    "%zz",
    "x" * 7000,
    "%0d%0aSet-Cookie:x",
    "%F0%9F%98%80",
    "..",
    "%2e%2e",
    "%1b[2J",
)
TARGETS: dict[str, Case] = {
    **{f"DELETE a topic {name:.20}": (get(f"/topics/{name}", method="DELETE"), 404) for name in NAMES},
    **{f"DELETE a client {name:.20}": (get(f"/clients/{name}", method="DELETE"), 404) for name in NAMES},
    **{f"GET /{name:.20}": (get(f"/{name}"), 404) for name in NAMES},
    **{f"GET /health?{name:.20}": (get(f"/health?{name}"), 200) for name in NAMES},
    "absolute": (get("http://x/health"), 200),
    "absolute with a bad port": (get("http://x:99999/health"), 400),
    "no address": (get("http://[/"), 400),
    "no slash": (get("health"), 400),
    "empty": (get(""), 400),
    "two slashes": (get("//"), 404),
    "above the root": (get("/../../etc/passwd"), 404),
    "a control character": (get("/\x01"), 400),
    "a byte that is none of ASCII": (get("/\xff"), 400),
    "a space": (get("/a b"), 400),
    "too long": (get("/" + "x" * 9000), 431),
    "a query that is no number": (get("/clients?limit=1e9"), 400),
}  # fmt: skip
VERSIONS: dict[str, Case] = {
    **{f"HTTP/{version}": (get(version=version), 400) for version in ("1.2", "1.10", "3.0", "x")},
    "no HTTP": (b"GET /health HTP/1.1\r\nHost: x\r\n\r\n", 400),
    "HTTP/1.0": (get(fields="", version="1.0"), 200),
}
FIELDS: dict[str, Case] = {
    "no Host": (get(fields=""), 400),
    "two Hosts": (get(fields="Host: x\r\nHost: y\r\n"), 400),
    "bare LF": (get(fields="Host: x\n"), 400),
    "bare CR": (get(fields="Host: x\r\nX: a\rb\r\n"), 400),
    "NUL": (get(fields="Host: x\r\nX: a\0b\r\n"), 400),
    "a control character": (get(fields="Host: x\r\nX: \x1b[2J\r\n"), 400),
    "a space before the colon": (get(fields="Host: x\r\nX : a\r\n"), 400),
    "a folded line": (get(fields="Host: x\r\nX: a\r\n b\r\n"), 400),
    "no name": (get(fields="Host: x\r\n: a\r\n"), 400),
    "a bad name": (get(fields="Host: x\r\nX@: a\r\n"), 400),
    "9 kB": (get(fields="Host: x\r\nX: " + "a" * 9000 + "\r\n"), 431),
    "300 of them": (get(fields="Host: x\r\n" + "".join(f"X{number}: a\r\n" for number in range(300))), 400),
    "100 kB in all": (get(fields="Host: x\r\n" + ("X: " + "a" * 8000 + "\r\n") * 13)[:-2], 431),
    "an expectation": (get(fields="Host: x\r\nExpect: miracles\r\n"), 417),
    "another upgrade": (get(fields="Host: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n"), 200),
}
LENGTHS: dict[str, Case] = {
    "length and chunks": (post("Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"), 400),
    "two": (post("Content-Length: 15\r\nContent-Length: 16", BODY), 400),
    "the same twice": (post("Content-Length: 15\r\nContent-Length: 15", BODY), 400),
    **{f"{length}": (post(f"Content-Length: {length}", BODY), 400)
       for length in ("15, 15", "-1", "+15", "0xf", "1" * 30, "", "1 5")},
    "a body too large": (post("Content-Length: 70000", b"x" * 70_000), 413),
    "no body": (post("X: y", b""), 400),
    **{f"transfer encoding {coding}": (post(f"Transfer-Encoding: {coding}", b"0\r\n\r\n"), 400)
       for coding in ("gzip", "xchunked", "identity", "chunked, chunked", "chunked, gzip", "\tchunked\v")},
}  # fmt: skip
CHUNKS: dict[str, Case] = {
    "as they should be": (chunked(b"f;a=b\r\n" + BODY + b"\r\n0\r\nX: y\r\n\r\n"), {201, 409}),
    **{f"{size:.9}": (chunked(size.encode() + b"\r\n"), 400) for size in ("zz", "-1", "0xf", "f" * 40, "", " f")},
    "longer than it says": (chunked(b"f\r\n" + BODY + b"xx\r\n0\r\n\r\n"), 400),
    "bare LF": (chunked(b"f\n" + BODY + b"\n0\n\n"), 400),
    "endless trailers": (chunked(b"f\r\n" + BODY + b"\r\n0\r\n" + b"X: y\r\n" * 100_000), 400),
    "endless": (chunked(b"1000\r\n%b\r\n" % (b"x" * 4096) * 100), 413),
    "many small ones": (chunked(b"1\r\nx\r\n" * (LARGEST + 1000)), 413),
}
ENCODINGS: dict[str, Case] = {
    "gzip": (encoded("gzip", gzip.compress(BODY)), {201, 409}),
    "gzip that is none": (encoded("gzip", BODY), 400),
    "gzip that is cut off": (encoded("gzip", gzip.compress(BODY)[:15]), 400),
    "gzip that is none, in chunks": (
        post("Content-Encoding: gzip\r\nTransfer-Encoding: chunked", b"f\r\n" + BODY + b"\r\n0\r\n\r\n"), 400,
    ),
    "gzip that is none, where nobody reads it": (
        get(fields=f"Host: x\r\nContent-Encoding: gzip\r\nContent-Length: {len(BODY)}\r\n") + BODY, 200,
    ),
    "a bomb": (encoded("gzip", BOMB), 413),
    "deflate that is none": (encoded("deflate", BODY), 400),
    "another": (encoded("br", BODY), 400),
    "UTF-16": (post("Content-Length: 8", '{}"a'.encode("utf-16-le")), 400),
    "another charset": (post("Content-Type: text/plain; charset=x\r\nContent-Length: 15", BODY), {201, 409}),
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ForkedServer("--mode", "debug", "--max-message-bytes", str(LARGEST)) as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log
        assert "[ERROR]" not in server.log
        assert re.fullmatch(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f]*", server.log)


def cases(**tables: dict[str, Case]) -> pytest.MarkDecorator:
    named = [(f"{table}: {name}", case) for table, rows in tables.items() for name, case in rows.items()]
    return pytest.mark.parametrize("case", [case for _, case in named], ids=[ascii(name) for name, _ in named])


async def check(port: int, case: Case) -> None:
    sent, expected = case
    client = await RawClient.connect_tcp(port)
    with contextlib.suppress(ConnectionError):  # the server may have refused it before the end
        await client.send(sent)
    status, answer = await client.read_response()
    assert status in ({expected} if isinstance(expected, int) else expected), answer
    assert status < 400 or answer.keys() == {"error"}
    client.close()
    good = await RawClient.connect_tcp(port)
    assert (await good.request("GET", "/health"))[0] == 200
    good.close()


@cases(methods=METHODS, targets=TARGETS, versions=VERSIONS)
@on_one_loop
async def test_odd_requests_get_their_status_in_json(server: ServerProcess, case: Case) -> None:
    await check(server.port, case)


@cases(fields=FIELDS, lengths=LENGTHS, chunks=CHUNKS)
@on_one_loop
async def test_row_16_heads_that_are_none_or_mean_two_things_are_refused(server: ServerProcess, case: Case) -> None:
    await check(server.port, case)


@cases(encodings=ENCODINGS)
@on_one_loop
async def test_row_17_bodies_too_large_or_not_what_they_say_are_refused(server: ServerProcess, case: Case) -> None:
    await check(server.port, case)


@on_one_loop
async def test_row_16_a_chunk_that_is_none_is_refused_at_once_also_when_it_comes_later(server: ServerProcess) -> None:
    client = await RawClient.connect_tcp(server.port)
    await client.send(chunked(b"5\r\nabcde\r\n"))
    other = await RawClient.connect_tcp(server.port)
    assert (await other.request("GET", "/health"))[0] == 200  # by now the server has read the first part
    await client.send(b"zz\r\n")
    status, answer = await client.read_response()
    assert status == 400
    assert answer.keys() == {"error"}
    assert await client.is_gone()


@on_one_loop
async def test_a_head_request_has_no_body(server: ServerProcess) -> None:
    client = await RawClient.connect_tcp(server.port)
    await client.send(get(method="HEAD") + get("/nowhere"))
    assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    status, answer = await client.read_response()
    assert status == 404
    assert answer.keys() == {"error"}


@on_one_loop
async def test_who_waits_for_100_continue_gets_it(server: ServerProcess) -> None:
    client = await RawClient.connect_tcp(server.port)
    await client.send(post("Expect: 100-continue\r\nContent-Length: 2", b""))
    assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"[]")
    assert (await client.read_response())[0] == 400


@on_one_loop
async def test_row_16_pipelined_requests_are_answered_in_order(server: ServerProcess) -> None:
    client = await RawClient.connect_tcp(server.port)
    await client.send((get() + get("/nowhere")) * 200)
    answers = [await client.read_response() for _ in range(400)]
    assert [status for status, _ in answers] == [200, 404] * 200
    assert len(json.dumps(answers[1])) < 100
