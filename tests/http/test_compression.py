"""Answers and streams in gzip, for clients that accept it, with COMPRESSION on."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import zlib
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from pubsub.http.compression import accepts_gzip
from pubsub.protocol.deflate import TAIL
from pubsub.sse.gzip import HEADER, Gzip, stored
from tests.harness import PATIENCE, Server, run_server
from tests.streams import Block, Stream, read_blocks

LONG = {"text": "a word and another word " * 40}
ACCEPTS = {"Accept-Encoding": "gzip, deflate, br"}


@pytest.mark.parametrize(
    ("field", "accepted"),
    [
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, GZIP;q=0.5, *;q=0", True),
        ("*", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("*;q=0", False),
        ("x-gzip-like", False),
    ],
)
def test_gzip_is_what_the_client_accepts(field: str, accepted: bool) -> None:
    assert accepts_gzip(make_mocked_request("GET", "/", {"Accept-Encoding": field})) is accepted
    assert not accepts_gzip(make_mocked_request("GET", "/"))


async def fetch(server: Server, path: str, **fields: str) -> tuple[aiohttp.ClientResponse, bytes]:
    headers = {"Accept-Encoding": "identity"} | fields
    async with aiohttp.ClientSession(server.url, auto_decompress=False) as http, http.get(path, headers=headers) as got:
        return got, await got.read()


async def test_long_answers_are_compressed_for_who_accepts_it() -> None:
    async with run_server(compression="on", compression_min_bytes=1000) as server:
        await server.create(*(f"topic.{number}" for number in range(100)))
        _, plain = await fetch(server, "/topics")
        response, packed = await fetch(server, "/topics", **ACCEPTS)
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed) == plain
        assert int(response.headers["Content-Length"]) == len(packed) < len(plain) / 4
        assert response.headers["Vary"] == "Accept-Encoding"
        response, _ = await fetch(server, "/topics")
        assert "Content-Encoding" not in response.headers
        assert response.headers["Vary"] == "Accept-Encoding"
        response, short = await fetch(server, "/health", **ACCEPTS)
        assert "Content-Encoding" not in response.headers
        assert json.loads(short)["topics"] == 100


async def test_nothing_is_compressed_without_the_setting() -> None:
    async with run_server() as server:
        await server.create(*(f"topic.{number}" for number in range(100)))
        response, body = await fetch(server, "/topics", **ACCEPTS)
        assert "Content-Encoding" not in response.headers
        assert "Vary" not in response.headers
        assert len(json.loads(body)["topics"]) == 100
        stream = await Stream.open(server.port, "/topics/topic.1/events", headers=ACCEPTS)
        assert "Content-Encoding" not in stream.headers


async def test_a_shared_answer_varies_by_both() -> None:
    async with run_server(compression="on", compression_min_bytes=1, allowed_origins="https://app.example") as server:
        response, _ = await fetch(server, "/stats", **ACCEPTS, Origin="https://app.example")
        assert sorted(", ".join(response.headers.getall("Vary")).split(", ")) == ["Accept-Encoding", "Origin"]


class PackedStream:
    """A stream in gzip, read block by block as a browser does: what has come is inflated at once."""

    def __init__(self, stream: Stream) -> None:
        assert stream.headers["Content-Encoding"] == "gzip"
        self.stream = stream
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._text = b""
        self.received = 0

    @classmethod
    async def open(cls, server: Server, path: str, **options: Any) -> PackedStream:
        return cls(await Stream.open(server.port, path, headers=ACCEPTS, **options))

    async def next(self) -> Block:
        async with asyncio.timeout(PATIENCE):
            while True:
                head, end, rest = self._text.partition(b"\n\n")
                if end:
                    self._text = rest
                    (block,) = read_blocks(head + end)
                    if block.data is not None:
                        return block
                    continue
                some = await self.stream.client.read_bytes(1)
                self.received += len(some)
                self._text += self._inflate.decompress(some)


@pytest.mark.parametrize("path", ["/topics/orders/events", "/events?topic=orders&topic=other"])
async def test_a_stream_comes_in_gzip_event_by_event(path: str) -> None:
    async with run_server(compression="on") as server:
        await server.create("orders", "other")
        streams = [await PackedStream.open(server, path) for _ in range(2)]
        plain = await Stream.open(server.port, path)
        infos = path.count("topic=") or 1
        for packed in streams:
            for _ in range(infos):
                assert (await packed.next()).data["msg"] == "subscribed"
        for _ in range(infos):
            await plain.info("subscribed")
        server.publish_locally("orders", [LONG, "short", LONG])
        server.publish_locally("orders", [LONG])
        for packed in streams:
            blocks = [await packed.next() for _ in range(4)]
            assert [block.data["message"]["payload"] for block in blocks] == [LONG, "short", LONG, LONG]
            assert packed.received < 2000
        assert await plain.payloads(4) == [LONG, "short", LONG, LONG]
        again = await PackedStream.open(server, path, last_id=str(blocks[1].id))
        assert [(await again.next()).data["msg"] for _ in range(infos)] == ["recovered"] * infos
        assert [(await again.next()).data["seq"] for _ in range(2)] == [3, 4]


async def test_the_end_of_a_stream_is_readable() -> None:
    async with run_server(compression="on") as server:
        await server.create("orders")
        packed = await PackedStream.open(server, "/topics/orders/events?client_id=alice")
        await packed.next()
        async with server.http.delete("/clients/alice") as response:
            assert response.status == 200
        assert (await packed.next()).data["msg"] == "disconnected"


async def test_aiohttp_and_curl_read_a_stream_in_gzip() -> None:
    async with run_server(compression="on") as server:
        await server.create("orders")
        server.publish_locally("orders", [LONG])
        async with server.http.get("/topics/orders/events?last_n=1", headers=ACCEPTS) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            text = b""
            while text.count(b"\n\n") < 2:
                text += await response.content.readany()
        assert read_blocks(text)[1].data["message"]["payload"] == LONG
        if (curl := shutil.which("curl")) is not None:
            url = f"{server.url}/topics/orders/events?last_n=1"
            program = await asyncio.create_subprocess_exec(
                curl, "-sN", "--compressed", url, stdout=asyncio.subprocess.PIPE
            )
            assert program.stdout is not None
            async with asyncio.timeout(PATIENCE):
                lines = [await program.stdout.readline() for _ in range(9)]
            program.terminate()
            await program.communicate()
            assert any(LONG["text"].encode() in line for line in lines)


@given(pieces=st.lists(st.binary(max_size=500).map(lambda piece: piece * 300), min_size=1, max_size=5))
def test_blocks_of_any_sizes_make_one_stream(pieces: list[bytes]) -> None:
    gzipped = Gzip(200)
    written: list[bytes] = [HEADER]
    write = gzipped.writing(written.append)
    for piece in pieces:
        write(piece)
        written.append(stored(piece))
    written.append(gzipped.join(stored(b"mark"), pieces))
    expected = b"".join(piece * 2 for piece in pieces) + b"mark".join(pieces)
    assert zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(b"".join(written)) == expected


def test_what_several_streams_write_is_deflated_once() -> None:
    gzipped = Gzip(10)
    first: list[bytes] = []
    second: list[bytes] = []
    writes = [gzipped.writing(first.append), gzipped.writing(second.append)]
    encoded = b"x" * 1000
    for write in writes:
        write(encoded)
    assert first[0] is second[0]
    assert first[0].endswith(TAIL)


@given(piece=st.binary(min_size=1, max_size=500).map(lambda piece: piece * 300))
def test_each_piece_ends_where_every_inflater_gives_it_out(piece: bytes) -> None:
    """That of Go, and so Caddy, gives out nothing of a stored block before an empty one follows."""
    written: list[bytes] = []
    Gzip(200).writing(written.append)(piece)
    assert all(each.endswith(TAIL) for each in (*written, stored(piece)))
