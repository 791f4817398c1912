"""Compressed connections on a real server: with independent clients, beside plain ones, slow, filtered and hostile."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from pubsub.http.app_keys import CONNECTIONS, SERVICES
from pubsub.protocol.deflate import TAIL
from tests.harness import Client, Json, RawClient, Server, eventually, masked_frame, publish_request, run_server

LONG = {"text": "a word and another word " * 40}
OFFER = "Sec-WebSocket-Extensions: permessage-deflate"
DEFLATED_TEXT = 0xC1
PLAIN_TEXT = 0x81


async def connect_raw(server: Server, offer: str, **options: Any) -> tuple[RawClient, str]:
    """A client that offers compression, and the server's answer to the offer; empty if it declines."""
    raw = await RawClient.connect_tcp(server.port, **options)
    await raw.send(
        b"GET /ws?client_id=raw HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b\r\n\r\n" % offer.encode()
    )
    head = (await raw.read_until(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 101 ")
    answers = [line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Extensions")]
    assert len(answers) <= 1
    return raw, "".join(answers)


def inflate(payload: bytes) -> Json:
    message: Json = json.loads(inflated(payload))
    return message


def inflated(payload: bytes, window: int = 15) -> bytes:
    return zlib.decompressobj(-window).decompress(payload + TAIL)


async def next_frame(raw: RawClient) -> tuple[int, bytes]:
    frame = await raw.read_frame()
    assert frame is not None
    return frame


@asynccontextmanager
async def websocket(server: Server, **options: Any) -> AsyncIterator[Client]:
    async with server.http.ws_connect("/ws?client_id=packed", autoping=False, **options) as socket_:
        yield Client(socket_)


async def test_without_the_setting_no_offer_is_accepted() -> None:
    async with run_server() as server:
        _, answer = await connect_raw(server, OFFER)
        assert answer == ""
        async with websocket(server, compress=15) as client:
            assert not client.websocket.compress


async def test_aiohttp_sends_and_receives_compressed_messages() -> None:
    async with run_server(compression="on") as server:
        await server.create("orders")
        async with websocket(server, compress=15) as client:
            assert client.websocket.compress == 15
            await client.subscribe("orders")
            for number in range(3):
                await client.send(publish_request("orders", LONG | {"n": number}))
            events = [each for each in await client.receive_many(6) if each["type"] == "event"]
            assert [each["message"]["payload"] for each in events] == [LONG | {"n": number} for number in range(3)]


async def test_the_client_of_websockets_keeps_its_contract() -> None:
    """It checks the answer to its offer strictly, and everything that RFC 7692 says of frames."""
    offer = ClientPerMessageDeflateFactory(server_max_window_bits=10, client_max_window_bits=9)
    async with run_server(compression="on") as server:
        await server.create("orders")
        async with connect(f"{server.url}/ws".replace("http", "ws"), extensions=[offer], compression=None) as client:
            (extension,) = client.protocol.extensions
            assert "remote_max_window_bits=10" in repr(extension)
            await client.send(json.dumps({"type": "subscribe", "topic": "orders", "client_id": "a"}))
            assert json.loads(await client.recv())["type"] == "ack"
            server.publish_locally("orders", [LONG, "short"])
            received = [json.loads(await client.recv())["message"]["payload"] for _ in range(2)]
            assert received == [LONG, "short"]


async def test_events_are_deflated_alone_and_everything_else_is_plain() -> None:
    async with run_server(compression="on", compression_min_bytes=300) as server:
        await server.create("orders")
        server.publish_locally("orders", [LONG])
        raw, answer = await connect_raw(server, OFFER)
        assert answer == "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        await raw.send_text({"type": "subscribe", "topic": "orders", "client_id": "raw", "last_n": 1})
        first, ack = await next_frame(raw)
        assert (first, json.loads(ack)["type"]) == (PLAIN_TEXT, "ack")
        first, replayed = await next_frame(raw)
        assert (first, json.loads(replayed)["seq"]) == (PLAIN_TEXT, 1)
        server.publish_locally("orders", [LONG, "short", LONG])
        frames = [await next_frame(raw) for _ in range(3)]
        assert [first for first, _ in frames] == [DEFLATED_TEXT, PLAIN_TEXT, DEFLATED_TEXT]
        assert [inflate(frames[0][1])["seq"], inflate(frames[2][1])["seq"]] == [2, 4]
        assert len(json.dumps(LONG)) / 8 < len(frames[2][1]) < len(json.dumps(LONG)) / 4  # it refers to nothing before


async def test_one_deflated_message_serves_all_clients_with_the_same_window() -> None:
    async with run_server(compression="on") as server:
        await server.create("orders")
        clients = [(await connect_raw(server, OFFER))[0] for _ in range(3)]
        small, answer = await connect_raw(server, f"{OFFER}; server_max_window_bits=9")
        assert answer.endswith("; server_max_window_bits=9")
        for raw in [*clients, small]:
            await raw.subscribe("orders")
        lanes = server.app[SERVICES].broker.find_topic("orders").lanes
        assert sorted(lane.size for lane in lanes) == [1, 3]
        server.publish_locally("orders", [LONG])
        written = [(await next_frame(raw))[1] for raw in [*clients, small]]
        assert written[0] == written[1] == written[2]
        assert inflated(written[3], 9) == inflated(written[0])


async def test_a_slow_compressed_client_is_told_its_gap() -> None:
    async with run_server(compression="on", send_buffer=4096, subscriber_queue_size=5) as server:
        await server.create("orders")
        raw, _ = await connect_raw(server, OFFER, receive_buffer=4096)
        await raw.subscribe("orders")
        payloads = [{"n": number, "text": random.Random(number).randbytes(4500).hex()} for number in range(300)]
        server.publish_locally("orders", payloads)
        await eventually(lambda: any(peer.subscriber.lagging for peer in server.app[CONNECTIONS].page(0, 9)))
        server.publish_locally("orders", payloads)
        seen, dropped = 0, 0
        while seen < 600:
            first, payload = await next_frame(raw)
            message = inflate(payload) if first == DEFLATED_TEXT else json.loads(payload)
            if message["type"] == "info":
                assert message["from_seq"] == seen + 1
                seen, dropped = message["to_seq"], dropped + message["count"]
            else:
                seen += 1
                assert message["seq"] == seen
        assert dropped


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (masked_frame(DEFLATED_TEXT, zlib.compress(b"\0" * 3_000_000, wbits=-15)), 1009),
        (masked_frame(DEFLATED_TEXT, b"\xff\xff\xff"), 1002),
        (masked_frame(0xC9, b"ping"), 1002),
        (masked_frame(DEFLATED_TEXT, zlib.compress(b"\xff\xfe", wbits=-15)), 1007),
    ],
)
async def test_hostile_frames_cost_their_sender_alone(frame: bytes, code: int) -> None:
    async with run_server(compression="on") as server:
        await server.create("orders")
        other, _ = await connect_raw(server, OFFER)
        await other.subscribe("orders")
        raw, _ = await connect_raw(server, OFFER)
        await raw.send(frame)
        assert await raw.close_code() == code
        server.publish_locally("orders", [LONG])
        assert inflate((await next_frame(other))[1])["message"]["payload"] == LONG


async def test_a_frame_with_the_bit_ends_a_plain_connection() -> None:
    async with run_server(compression="on") as server:
        raw = await RawClient.connect(server.port)
        await raw.send(masked_frame(DEFLATED_TEXT, b"\x00"))
        assert await raw.close_code() == 1002


async def test_filters_and_patterns_reach_compressed_clients() -> None:
    async with run_server(compression="on") as server:
        await server.create("orders.eu")
        async with websocket(server, compress=15) as client:
            await client.subscribe("orders.*", filter="payload.n > params.least", params={"least": 1})
            server.publish_locally("orders.eu", [LONG | {"n": number} for number in range(4)])
            received = await client.receive_many(2)
            assert [each["message"]["payload"]["n"] for each in received] == [2, 3]


async def test_a_very_long_event_stays_plain() -> None:
    async with run_server(compression="on") as server:
        await server.create("orders")
        async with websocket(server, compress=15, max_msg_size=0) as client:
            await client.subscribe("orders")
            server.publish_locally("orders", ["x" * 300_000])
            assert (await client.receive())["message"]["payload"] == "x" * 300_000


async def test_a_client_that_leaves_in_the_middle_costs_nothing() -> None:
    async with run_server(compression="on") as server:
        raw, _ = await connect_raw(server, OFFER)
        await raw.send(masked_frame(0x41, b"\x4a")[:5])
        raw.close()
        await eventually(lambda: server.connections == 0)


async def test_aiohttp_can_be_refused_its_own_context() -> None:
    """Its client would keep its window between messages: the answer asks it not to."""
    async with run_server(compression="on") as server:
        await server.create("orders")
        async with aiohttp.ClientSession(server.url) as http, http.ws_connect("/ws", compress=15) as socket_:
            assert socket_.client_notakeover
