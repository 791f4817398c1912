"""The connection over real sockets: heartbeat, time limits, RFC 6455, the closing handshake, flow control."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import Rights

from pubsub.http.app_keys import CONNECTIONS, SERVICES
from pubsub.protocol.errors import CloseReason
from pubsub.protocol.frames import BINARY, CLOSE, CONTINUATION, FIN, LONG_TEXT, PING, PONG, TEXT
from pubsub.protocol.requests import TopicOptions
from pubsub.websocket.connection import FULL_READ
from pubsub.websocket.replies import PauseReason
from tests.harness import (
    PATIENCE,
    Json,
    RawClient,
    Server,
    eventually,
    frame_header,
    masked_frame,
    on_one_loop,
    run_server,
)
from tests.simulation import Frames, Parts, Transport

MASK = b"\x12\x34\x56\x78"
PING_REQUEST = b'{"type":"ping"}'
LIMIT = 4096  # MAX_MESSAGE_BYTES in these tests


def close_payload(code: int, reason: bytes = b"") -> bytes:
    return code.to_bytes(2, "big") + reason


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with run_server(max_message_bytes=LIMIT) as server:
        yield server


async def pong_of(client: RawClient, request_id: str = "alive") -> None:
    """Request a pong, to check that the connection is served."""
    await client.send_text({"type": "ping", "request_id": request_id})
    message = await client.receive()
    assert message.items() >= {"type": "pong", "request_id": request_id}.items()


# Heartbeat


async def test_each_period_has_a_ping_frame_and_an_info_ping() -> None:
    async with run_server(ping_period_sec=0.2) as server:
        client = await RawClient.connect(server.port)
        for _ in range(3):
            opcode, moment = await client.read_frame() or (0, b"")
            assert (opcode, len(moment)) == (FIN | PING, 8)
            first, payload = await client.read_frame() or (0, b"")
            message = json.loads(payload)
            assert first == FIN | TEXT
            assert message.pop("ts").endswith("Z")
            assert message == {"type": "info", "msg": "ping"}
            await client.send(masked_frame(FIN | PONG, b""))


def round_trips(server: Server) -> int:
    return sum(server.app[SERVICES].meter.round_trips.counts)


async def test_the_first_pong_of_each_ping_measures_its_round_trip() -> None:
    async with run_server(ping_period_sec=0.2) as server:
        client = await RawClient.connect(server.port)
        (peer,) = server.app[CONNECTIONS].page(0, 1)
        assert peer.round_trip is None
        for number in range(1, 3):
            while (frame := await client.read_frame() or (0, b""))[0] != FIN | PING:
                pass
            await client.send(3 * masked_frame(FIN | PONG, frame[1]))
            await pong_of(client)
            assert round_trips(server) == number
            assert peer.round_trip is not None
            assert 0 <= peer.round_trip < 1000 * PATIENCE


@pytest.mark.parametrize(
    "forge",
    [
        lambda moment: b"",
        lambda moment: moment[:7],
        lambda moment: moment + b"x",
        lambda moment: b"\xff" * 8,
        lambda moment: bytes(8),
    ],
    ids=["empty", "short", "long", "in the future", "before the ping was due"],
)
@on_one_loop
async def test_a_pong_with_another_payload_measures_nothing(forge: Callable[[bytes], bytes]) -> None:
    async with run_server(ping_period_sec=0.3) as server:
        client = await RawClient.connect(server.port)
        await client.send(masked_frame(FIN | PONG, bytes(8)))
        for _ in range(2):  # the second ping is due long after the start
            while (frame := await client.read_frame() or (0, b""))[0] != FIN | PING:
                pass
        await client.send(masked_frame(FIN | PONG, forge(frame[1])))
        await pong_of(client)
        assert round_trips(server) == 0


async def test_nothing_but_the_heartbeat_is_sent_unasked() -> None:
    async with run_server(ping_period_sec=0.2) as server:
        client = await RawClient.connect(server.port)
        seen = {await client.read_frame() for _ in range(4)}
        assert {first for first, _ in filter(None, seen)} == {FIN | PING, FIN | TEXT}


async def test_pings_are_spread_over_the_period() -> None:
    """Clients that connect at once get their first pings at different times: some early, some later."""
    async with run_server(ping_period_sec=60) as server:
        clients = [await RawClient.connect(server.port, path=f"/ws?client_id=c{number}") for number in range(600)]
        first_pings = [asyncio.ensure_future(client.read_frame()) for client in clients]
        await eventually(lambda: sum(ping.done() for ping in first_pings) >= 2)
        pinged = sum(ping.done() for ping in first_pings)
        assert pinged < 300
        for ping in first_pings:
            ping.cancel()
        await asyncio.gather(*first_pings, return_exceptions=True)


async def test_who_sends_no_whole_frame_for_pong_wait_is_dropped_and_who_answers_stays() -> None:
    async with run_server(ping_period_sec=0.1, pong_wait_sec=1.2, read_timeout_sec=60) as server:
        silent = await RawClient.connect(server.port, path="/ws?client_id=silent")
        partial = await RawClient.connect(server.port, path="/ws?client_id=partial")
        answering = await RawClient.connect(server.port, path="/ws?client_id=answering")
        asking = await RawClient.connect(server.port, path="/ws?client_id=asking")
        await partial.send(frame_header(FIN | TEXT, LIMIT, masked=True))
        dropped = asyncio.gather(silent.is_gone(), dribble_till_closed(partial))
        while not dropped.done():
            frame = await answering.read_frame()
            assert frame is not None, "a client that answers pings is alive"
            if frame[0] == FIN | PING:
                await answering.send(masked_frame(FIN | PONG, frame[1]))
            await asking.send(masked_frame(FIN | TEXT, PING_REQUEST))
        await dropped
        assert server.connections == 2
        await pong_of(answering)


async def dribble_till_closed(client: RawClient) -> None:
    """Send a byte of a long frame for each frame of the server, until it closes."""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            while await client.read_frame():
                await client.send(b"x")


async def test_fragments_are_whole_frames_and_so_are_life() -> None:
    async with run_server(ping_period_sec=0.1, pong_wait_sec=0.6, read_timeout_sec=60) as server:
        silent = await RawClient.connect(server.port, path="/ws?client_id=silent")
        fragmenting = await RawClient.connect(server.port, path="/ws?client_id=fragmenting")
        await fragmenting.send(masked_frame(TEXT, b" "))
        dropped = asyncio.ensure_future(silent.close_code())
        while not dropped.done():
            assert await fragmenting.read_frame() is not None
            await fragmenting.send(masked_frame(CONTINUATION, b" "))
        assert server.connections == 1


async def test_row_35_slow_but_taking_data_is_alive() -> None:
    """The client sends nothing and always lags with reading; a silent client that came later is closed."""
    async with run_server(ping_period_sec=0.3, pong_wait_sec=1.5, send_buffer=1 << 16) as server:
        await server.create("orders")
        slow = await RawClient.connect(server.port, receive_buffer=1 << 16, path="/ws?client_id=slow")
        await slow.subscribe("orders")
        server.publish_locally("orders", ["x" * 8000] * 100)
        slow.read_size = 2048  # so that reading one buffer of the server takes longer than PONG_WAIT
        silent = await RawClient.connect(server.port, path="/ws?client_id=silent")
        dropped = asyncio.ensure_future(silent.close_code())
        while not dropped.done():
            server.publish_locally("orders", ["x" * 8000])
            assert await slow.read_some()
            await asyncio.sleep(0.02)  # the client's slowness
        assert await dropped is None
        assert server.connections == 1, "the slow client was closed"


# A message that has begun must be complete in time

DRIBBLES = {
    "a frame": b"x",
    "fragments": masked_frame(CONTINUATION, b" "),
    "fragments with pings between": masked_frame(CONTINUATION, b" ") + masked_frame(FIN | PING, b""),
    "fragments with pongs between": masked_frame(CONTINUATION, b" ") + masked_frame(FIN | PONG, b""),
}
BEGINNINGS = {"a frame": frame_header(FIN | TEXT, LIMIT, masked=True) + MASK}


@pytest.mark.parametrize("kind", DRIBBLES)
async def test_row_13_a_message_that_does_not_end_is_closed_with_1008(kind: str) -> None:
    async with run_server(read_timeout_sec=0.4, max_message_bytes=LIMIT) as server:
        client = await RawClient.connect(server.port)
        await client.send(BEGINNINGS.get(kind, masked_frame(TEXT, b" ")))
        closed = asyncio.ensure_future(client.close_code())
        async with asyncio.timeout(3):
            while not closed.done():
                await client.send(DRIBBLES[kind])
                await asyncio.sleep(0.05)  # the client's slowness
        assert await closed == 1008


async def test_the_limit_is_one_of_messages_not_of_connections() -> None:
    """The client always has an incomplete message: each one begins in the piece in which the last one ends."""
    async with run_server(read_timeout_sec=1.5) as server:
        stuck = await RawClient.connect(server.port, path="/ws?client_id=stuck")
        await stuck.send(masked_frame(TEXT, b" "))
        closed = asyncio.ensure_future(stuck.close_code())
        client = await RawClient.connect(server.port)
        frame = masked_frame(FIN | TEXT, PING_REQUEST)
        await client.send(frame[:5])
        while not closed.done():
            for _ in range(2):
                await client.send(frame[5:] + frame[:5])
                assert (await client.receive())["type"] == "pong"
            await asyncio.wait([closed], timeout=0.01)
        assert await closed == 1008


# RFC 6455

MESSAGE = masked_frame(FIN | TEXT, PING_REQUEST)
REFUSED = {
    "unmasked": (frame_header(FIN | TEXT, 15, masked=False) + PING_REQUEST, 1002),
    "unmasked ping": (frame_header(FIN | PING, 0, masked=False), 1002),
    "RSV1": (masked_frame(FIN | 0x40 | TEXT, PING_REQUEST), 1002),
    "RSV2": (masked_frame(FIN | 0x20 | TEXT, PING_REQUEST), 1002),
    "RSV3": (masked_frame(FIN | 0x10 | TEXT, PING_REQUEST), 1002),
    "RSV1 of a ping": (masked_frame(FIN | 0x40 | PING, b""), 1002),
    **{
        f"opcode {opcode:#x}": (masked_frame(FIN | opcode, b""), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    },
    "ping of 126 bytes": (masked_frame(FIN | PING, b"x" * 126), 1002),
    "pong of 126 bytes": (masked_frame(FIN | PONG, b"x" * 126), 1002),
    "close of 126 bytes": (masked_frame(FIN | CLOSE, close_payload(1000, b"x" * 124)), 1002),
    "fragmented ping": (masked_frame(PING, b""), 1002),
    "fragmented close": (masked_frame(CLOSE, close_payload(1000)), 1002),
    "continuation of nothing": (masked_frame(FIN | CONTINUATION, PING_REQUEST), 1002),
    "text within a fragmented message": (masked_frame(TEXT, b"{") + MESSAGE, 1002),
    "binary within a fragmented message": (masked_frame(TEXT, b"{") + masked_frame(FIN | BINARY, b""), 1002),
    "invalid UTF-8": (masked_frame(FIN | TEXT, b'{"type":"ping\xff"}'), 1007),
    "UTF-8 of a surrogate": (masked_frame(FIN | TEXT, b"\xed\xa0\x80"), 1007),
    "overlong UTF-8": (masked_frame(FIN | TEXT, b"\xc0\xaf"), 1007),
    "UTF-8 that ends too early": (masked_frame(FIN | TEXT, b"\xe2\x82"), 1007),
    "invalid UTF-8 in fragments": (masked_frame(TEXT, b"\xe2") + masked_frame(FIN | CONTINUATION, b"\x28\xa1"), 1007),
    "header of a frame above the limit": (frame_header(FIN | TEXT, LIMIT + 1, masked=True) + MASK, 1009),
    "header of a huge frame": (frame_header(FIN | TEXT, (1 << 63) - 1, masked=True) + MASK, 1009),
    "header of a binary frame above the limit": (frame_header(FIN | BINARY, LIMIT + 1, masked=True) + MASK, 1009),
    "fragments above the limit": (
        masked_frame(TEXT, b" " * LIMIT) + frame_header(FIN | CONTINUATION, 1, masked=True) + MASK,
        1009,
    ),
    "many fragments above the limit": (
        masked_frame(TEXT, b" ") + masked_frame(CONTINUATION, b" " * 1000) * 4 + masked_frame(CONTINUATION, b" " * 96),
        1009,
    ),
    "close of one byte": (masked_frame(FIN | CLOSE, b"\x03"), 1002),
    "close with a reason that is no UTF-8": (masked_frame(FIN | CLOSE, close_payload(1000, b"\xff")), 1007),
    **{
        f"close code {code}": (masked_frame(FIN | CLOSE, close_payload(code)), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
}


@pytest.mark.parametrize("case", REFUSED)
@on_one_loop
async def test_what_breaks_the_protocol_ends_the_connection(
    server: Server, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pubsub")
    sent, code = REFUSED[case]
    client = await RawClient.connect(server.port)
    await client.send(sent)
    assert await client.close_code() == code
    client.close()
    await eventually(lambda: server.connections == 0)
    (error,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert error.getMessage().startswith("WebSocket error for client raw: ")
    assert not error.exc_info


async def test_nothing_is_served_after_a_fault(server: Server) -> None:
    await server.create("orders")
    client = await RawClient.connect(server.port)
    publish = json.dumps(
        {
            "type": "publish",
            "topic": "orders",
            "message": {"id": "550e8400-e29b-41d4-a716-446655440000", "payload": 1},
        }
    ).encode()
    good = masked_frame(FIN | TEXT, publish)
    await client.send(good + masked_frame(FIN | 3, b"") + good)
    assert [message["type"] async for message in client.read_messages()] == ["ack"], "earlier messages are answered"
    assert (await server.get("/stats"))["topics"]["orders"]["messages"] == 1


ACCEPTED = {
    "whole": MESSAGE,
    "byte for byte": MESSAGE,
    "mask of zeros": masked_frame(FIN | TEXT, PING_REQUEST, mask=b"\0\0\0\0"),
    "exactly the limit": masked_frame(FIN | TEXT, PING_REQUEST.ljust(LIMIT)),
    "fragments of exactly the limit": masked_frame(TEXT, PING_REQUEST.ljust(LIMIT - 1))
    + masked_frame(FIN | CONTINUATION, b" "),
    "fragments": b"".join(
        masked_frame(first, PING_REQUEST[begin : begin + 5])
        for first, begin in [(TEXT, 0), (CONTINUATION, 5), (FIN | CONTINUATION, 10)]
    ),
    "empty fragments": masked_frame(TEXT, b"")
    + masked_frame(CONTINUATION, PING_REQUEST)
    + masked_frame(FIN | CONTINUATION, b""),
    "fragments with a pong between": masked_frame(TEXT, PING_REQUEST[:5])
    + masked_frame(FIN | PONG, b"x" * 125)
    + masked_frame(FIN | CONTINUATION, PING_REQUEST[5:]),
    "behind a pong that nobody asked for": masked_frame(FIN | PONG, b"hello") + MESSAGE,
    "a character in two fragments": masked_frame(TEXT, b'{"type":"ping","x":"\xc3')
    + masked_frame(FIN | CONTINUATION, b'\xa9"}'),
}


@pytest.mark.parametrize("case", ACCEPTED)
async def test_what_is_allowed_is_served(server: Server, case: str) -> None:
    client = await RawClient.connect(server.port)
    size = 1 if case == "byte for byte" else len(ACCEPTED[case])
    for begin in range(0, len(ACCEPTED[case]), size):
        await client.send(ACCEPTED[case][begin : begin + size])
        await asyncio.sleep(0)
    assert (await client.receive())["type"] == "pong"


@pytest.mark.parametrize("payload", [b"", b"hello", b"x" * 125])
@on_one_loop
async def test_a_ping_frame_is_answered_with_its_payload(server: Server, payload: bytes) -> None:
    client = await RawClient.connect(server.port)
    await client.send(masked_frame(TEXT, PING_REQUEST[:5]))
    await client.send(masked_frame(FIN | PING, payload))
    assert await client.read_frame() == (FIN | PONG, payload)
    await client.send(masked_frame(FIN | CONTINUATION, PING_REQUEST[5:]))
    assert (await client.receive())["type"] == "pong"


# The close handshake


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
@on_one_loop
async def test_the_clients_close_is_answered_with_its_code(
    server: Server, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pubsub")
    client = await RawClient.connect(server.port)
    await client.send(MESSAGE + masked_frame(FIN | CLOSE, close_payload(code, "adiós".encode())))
    assert (await client.receive())["type"] == "pong", "earlier messages are answered"
    frame = await client.read_frame()
    assert frame is not None
    assert (frame[0], frame[1][:2]) == (FIN | CLOSE, close_payload(code))
    assert await client.is_gone()
    await eventually(lambda: server.connections == 0)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_a_close_without_a_code_is_answered(server: Server) -> None:
    client = await RawClient.connect(server.port)
    await client.send(masked_frame(FIN | CLOSE, b""))
    frame = await client.read_frame()
    assert frame is not None
    assert frame[0] == FIN | CLOSE
    assert await client.is_gone()


async def test_nothing_is_served_after_the_clients_close(server: Server) -> None:
    client = await RawClient.connect(server.port)
    await client.send(masked_frame(FIN | CLOSE, close_payload(1000)) + MESSAGE)
    frame = await client.read_frame()
    assert frame is not None
    assert frame[0] == FIN | CLOSE
    assert await client.read_frame() is None


@pytest.mark.parametrize("answers", [True, False], ids=["answers", "never answers"])
async def test_row_34_after_the_servers_close_the_connection_is_gone_within_a_second(
    server: Server, answers: bool
) -> None:
    client = await RawClient.connect(server.port)
    await client.send(masked_frame(FIN | 3, b""))
    assert await client.close_code() == 1002
    async with asyncio.timeout(2):  # a second, and one for a busy machine
        if answers:
            await client.send(masked_frame(FIN | CLOSE, close_payload(1002)))
        assert await client.is_gone()
        await eventually(lambda: server.connections == 0)


async def send_for_ever(client: RawClient, sent: bytes) -> None:
    while True:
        await client.send(sent)
        await asyncio.sleep(0)


async def test_who_floods_after_the_servers_close_is_gone_too(server: Server) -> None:
    client = await RawClient.connect(server.port)
    await client.send(masked_frame(FIN | 3, b""))
    async with asyncio.timeout(2):
        with pytest.raises(ConnectionError):
            await send_for_ever(client, MESSAGE * 100)
    await eventually(lambda: server.connections == 0)


@pytest.mark.parametrize(
    ("request_", "served"),
    [
        ({"type": "publish", "topic": "a", "message": {"id": str(UUID(int=1)), "payload": 1}}, 90),
        ({"type": "publish", "topic": "b", "message": {"id": str(UUID(int=1)), "payload": 1}}, 5),
        ({"type": "subscribe", "topic": "a", "client_id": "busy"}, 5),
        ({"type": "nonsense"}, 5),
    ],
    ids=["publish", "refused publish", "subscribe", "nonsense"],
)
def test_a_turn_has_fewer_requests_of_those_that_take_longer(request_: Json, served: int) -> None:
    parts = Parts(Random(1))
    parts.broker.create_topic("a")
    transport = parts.connect("busy")
    assert transport.connection is not None
    transport.connection.data_received(masked_frame(FIN | TEXT, json.dumps(request_).encode()) * 90)
    assert transport.reading == (served == 90), "the server reads no more before the others had their turn"
    frames = Frames()
    transport.connection.flush()
    assert len(frames.feed(transport.drain(1 << 20))) == served
    more = 0
    for _ in range(90):
        parts.loop.run_out()
        more += len(frames.feed(transport.drain(1 << 20)))
    assert served + more == 90
    assert transport.reading


@pytest.mark.parametrize("padding", [0, FULL_READ // 20], ids=["short", "full read"])
def test_many_clients_with_requests_that_take_longer_have_one_turn_in_a_tick(padding: int) -> None:
    parts = Parts(Random(1), max_message_bytes=FULL_READ)
    clients = {parts.connect(f"busy{number}"): Frames() for number in range(4)}
    for transport in clients:
        assert transport.connection is not None
        nonsense = b'{"type":"nonsense","padding":"%s"}' % (b"x" * padding)
        transport.connection.data_received(masked_frame(FIN | TEXT, nonsense) * 20)
    parts.loop.end_tick()
    served: list[int] = []
    while not served or served[-1]:
        served.append(sum(len(frames.feed(transport.drain(1 << 20))) for transport, frames in clients.items()))
        parts.loop.end_tick()
    assert sum(served) == 4 * 20
    assert max(served[1:]) == 5
    parts.loop.run_out()
    assert all(transport.reading for transport in clients)


def long_publish(*, fragments: bool, payload: bytes = b"x" * LONG_TEXT) -> bytes:
    message = b'{"id":"%s","payload":"%s"}' % (str(UUID(int=1)).encode(), payload)
    text = b'{"type":"publish","topic":"a","message":%s}' % message
    if fragments:
        return masked_frame(TEXT, text[:-9]) + masked_frame(FIN | CONTINUATION, text[-9:])
    return masked_frame(FIN | TEXT, text)


@pytest.mark.parametrize("fragments", [False, True])
def test_long_messages_of_many_clients_are_served_one_in_a_tick_and_before_what_came_behind_them(
    fragments: bool,
) -> None:
    parts = Parts(Random(1), max_message_bytes=2 * LONG_TEXT)
    parts.broker.create_topic("a")
    clients = {parts.connect(f"busy{number}"): Frames() for number in range(3)}
    for transport in clients:
        assert transport.connection is not None
        transport.connection.data_received(long_publish(fragments=fragments) + masked_frame(FIN | TEXT, PING_REQUEST))
        assert not transport.reading, "the server reads no more before this is served"
    answers: dict[Transport, list[object]] = {transport: [] for transport in clients}
    acks = [0]
    while not all("pong" in each for each in answers.values()):
        parts.loop.end_tick()
        for transport, frames in clients.items():
            answers[transport] += [each["type"] for each in frames.feed(transport.drain(1 << 20)) if type(each) is dict]
        acks.append(sum("ack" in each for each in answers.values()))
    assert [more - before for before, more in pairwise(acks) if more > before] == [1, 1, 1]
    assert list(answers.values()) == [["ack", "pong"]] * 3
    assert all(transport.reading for transport in clients)


def test_a_long_message_that_is_no_text_is_not_served_and_ends_the_connection() -> None:
    parts = Parts(Random(1), max_message_bytes=2 * LONG_TEXT)
    parts.broker.create_topic("a")
    transport = parts.connect("busy")
    assert transport.connection is not None
    transport.connection.data_received(long_publish(fragments=False, payload=b"x" * LONG_TEXT + b"\xff"))
    parts.loop.run_out()
    assert transport.drain(1 << 20)[:4] == b"\x88" + bytes([len(CloseReason.INVALID_TEXT.reason) + 2]) + b"\x03\xef"
    assert parts.broker.find_topic("a").seq == 0


def test_a_long_message_of_a_client_that_is_sent_away_meanwhile_is_not_served() -> None:
    parts = Parts(Random(1), max_message_bytes=2 * LONG_TEXT)
    parts.broker.create_topic("a")
    transport = parts.connect("busy")
    assert transport.connection is not None
    transport.connection.data_received(long_publish(fragments=False))
    transport.connection.disconnect()
    parts.loop.run_out()
    assert parts.broker.find_topic("a").seq == 0
    assert transport.reading, "the server waits for its close frame"


def test_row_37_who_waits_for_the_server_is_not_taken_for_dead() -> None:
    """The client is a publisher that waits for a stuck disk: the server reads none of its frames, not even pongs."""
    parts = Parts(Random(1))
    patience = int(parts.services.limits.pong_wait)
    transport = parts.connect("publisher")

    def pass_seconds(count: int) -> bool:
        for _ in range(count):
            parts.loop.pass_time(1)
            parts.loop.run_out()
            transport.drain(1 << 20)
        return not transport.closing

    assert transport.connection is not None
    transport.connection.pause(PauseReason.ANSWER)
    assert pass_seconds(2 * patience)
    transport.connection.resume(PauseReason.ANSWER)
    assert pass_seconds(patience - 60), "its whole time limit starts again"
    assert not pass_seconds(120)


async def test_a_half_closed_client_gets_its_answers(server: Server) -> None:
    client = await RawClient.connect(server.port)
    await client.send(MESSAGE * 3)
    client.half_close()
    assert [message["type"] async for message in client.read_messages()] == ["pong"] * 3
    await eventually(lambda: server.connections == 0)


async def test_a_reset_ends_the_connection_and_its_subscriptions(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pubsub")
    await server.create("orders")
    client = await RawClient.connect(server.port)
    await client.subscribe("orders")
    assert (await server.get("/health"))["subscribers"] == 1
    client.reset()
    await eventually(lambda: server.connections == 0)
    assert (await server.get("/health"))["subscribers"] == 0
    server.publish_locally("orders", [1])
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_a_reset_in_the_middle_of_a_delivery_costs_nobody_else_anything(server: Server) -> None:
    await server.create("orders")
    async with server.client() as healthy:
        await healthy.subscribe("orders")
        for number in range(10):
            leaving = await RawClient.connect(server.port, receive_buffer=4096)
            await leaving.subscribe("orders")
            server.publish_locally("orders", ["x" * 10_000])
            leaving.reset()
            server.publish_locally("orders", ["x" * 10_000])
            assert [event["seq"] for event in await healthy.receive_many(2)] == [2 * number + 1, 2 * number + 2]
        await eventually(lambda: server.connections == 1)


# Flow control


async def test_who_reads_no_answers_is_not_read_and_gets_every_answer_once_it_reads() -> None:
    """The client can send no more: the server holds no more of its requests than its buffers."""
    async with run_server(send_buffer=1 << 16) as server:
        client = await RawClient.connect(server.port, receive_buffer=1 << 16)
        request_id = "x" * 100
        asked = 0
        request = masked_frame(FIN | TEXT, json.dumps({"type": "ping", "request_id": request_id}).encode())
        try:
            while asked < 1_000_000:
                async with asyncio.timeout(1):
                    await client.send(request * 1000)
                asked += 1000
        except TimeoutError:
            pass
        assert asked < 200_000, "28 MB: the server continued to read"
        async with server.client() as other:
            await other.sync()
        answers = 0
        while answers < asked:
            message = await client.receive()
            assert message.items() >= {"type": "pong", "request_id": request_id}.items()
            answers += 1


def test_row_61_each_reason_to_hold_a_client_ends_by_itself() -> None:
    parts = Parts(Random(0))
    transport = parts.connect("held")
    assert transport.connection is not None
    for reason in PauseReason:
        transport.connection.pause(reason)
    for reason in PauseReason:
        parts.loop.run_out()
        assert not transport.reading
        transport.connection.resume(reason)
    parts.loop.run_out()
    assert transport.reading


def publish_text(number: int, topic: str = "a", **fields: Any) -> str:
    message = {"id": f"00000000-0000-4000-8000-{number:012d}", "payload": number}
    return json.dumps({"type": "publish", "topic": topic, "message": message, "request_id": f"r{number}"} | fields)


TEXTS = (
    lambda number: publish_text(number),
    lambda number: publish_text(number, "b"),
    lambda number: publish_text(number, "dedup"),
    lambda number: publish_text(number % 3, "dedup"),
    lambda number: publish_text(number, "none"),
    lambda number: publish_text(number, "denied"),
    lambda number: publish_text(number, expect_seq=number % 4),
    lambda number: publish_text(number, ttl_sec=5),
    lambda number: publish_text(number, message={"id": "no id", "payload": 1}),
    lambda number: publish_text(number, message={"id": f"00000000-0000-4000-8000-{number:012d}"}),
    lambda number: json.dumps({"type": "ping", "request_id": f"r{number}"}),
    lambda number: json.dumps({"type": "subscribe", "topic": "a", "client_id": "c", "request_id": f"r{number}"}),
    lambda number: json.dumps({"type": "unsubscribe", "topic": "a", "client_id": "c", "request_id": f"r{number}"}),
    lambda number: json.dumps({"type": "history", "topic": "b", "last_n": 2, "request_id": f"r{number}"}),
    lambda number: "no JSON",
    lambda number: '{"type":"publish"}, {"type":"publish"}',
)


@given(st.lists(st.sampled_from(TEXTS), max_size=80), st.booleans())
def test_what_comes_together_is_served_as_what_comes_alone(makers: list[Callable[[int], str]], rights: bool) -> None:
    """A read may bring many publishes, which are appended together. The client must not be able to tell."""
    frames = [masked_frame(FIN | TEXT, make(number).encode()) for number, make in enumerate(makers)]
    told: list[list[Any]] = []
    for pieces in (frames, [b"".join(frames)]):
        parts = Parts(Random(1), rights=[Rights(("a", "b", "dedup", "none"))] if rights else ())
        for topic in ("a", "b"):
            parts.broker.create_topic(topic)
        parts.broker.create_topic("dedup", TopicOptions(dedup_sec=60))
        transport = parts.connect("c", 0 if rights else None)
        reader, got = Frames(), list[Any]()
        for piece in pieces:
            transport.connection.data_received(piece)
            parts.loop.run_out()
            while transport.get_write_buffer_size():
                got += reader.feed(transport.drain(1 << 20))
                parts.loop.run_out()
        told.append(got)
    alone, together = ([each for each in all_ if each["type"] != "event"] for all_ in told)
    assert together == alone
    events = [[each for each in all_ if each["type"] == "event"] for all_ in told]
    assert [each["seq"] for each in events[1]] == [each["seq"] for each in events[0]]
