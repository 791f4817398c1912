"""WebSocket frames of a client, compared with those of the server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsub.client import ServerFault
from pubsub.client.frames import (
    COMPRESSED_KINDS,
    FIN_CLOSE,
    FIN_DEFLATED,
    FIN_PING,
    FIN_TEXT,
    MAX_FRAME_BYTES,
    FrameBounds,
    client_frame,
    inflate,
    read_frame,
)
from pubsub.protocol.deflate import LARGEST_WINDOW, TAIL, Deflater, deflated_frame
from pubsub.protocol.frames import PING, control_frame, text_frame
from tests.harness import masked_frame, take_frame

SIZES = [0, 125, 126, 65_535, 65_536]


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_the_mask_that_aiohttp_lends_is_the_one_of_the_rfc(payload: bytes, mask: bytes) -> None:
    assert client_frame(FIN_TEXT, payload, mask) == masked_frame(FIN_TEXT, payload, mask)


@pytest.mark.parametrize("size", SIZES)
def test_client_frames_of_each_length(size: int) -> None:
    assert client_frame(FIN_TEXT, b"x" * size, b"mask") == masked_frame(FIN_TEXT, b"x" * size, b"mask")


@pytest.mark.parametrize("size", SIZES)
def test_frames_of_each_length(size: int) -> None:
    frame = text_frame(b"x" * size)
    assert [read_frame(frame[:end], 0) for end in range(len(frame) - 1, max(0, len(frame) - 20), -1)].count(None) > 0
    read = read_frame(frame + b"more", 0)
    assert read is not None
    assert (read.end - read.start, read.end) == (size, len(frame))


@pytest.mark.parametrize("size", SIZES)
def test_the_reader_of_the_tests_finds_the_same(size: int) -> None:
    received = bytearray(text_frame(b"x" * size) + b"\x81")
    assert take_frame(received) == (FIN_TEXT, b"x" * size)
    assert received == b"\x81"
    assert take_frame(received) is None


@pytest.mark.parametrize("size", SIZES)
def test_a_frame_that_is_not_whole_is_none(size: int) -> None:
    frame = text_frame(b"x" * size)
    ends = [*range(min(20, len(frame))), len(frame) - 1]
    assert [read_frame(frame[:end], 0) for end in ends] == [None] * len(ends)


def test_frames_that_follow_each_other() -> None:
    received = text_frame(b"first") + control_frame(PING, b"?") + b"\x88\x02\x03\xf5"
    bounds = [FrameBounds(FIN_TEXT, 2, 7), FrameBounds(FIN_PING, 9, 10), FrameBounds(FIN_CLOSE, 12, 14)]
    assert [read_frame(received, position) for position in (0, 7, 10)] == bounds
    assert read_frame(received, 14) is None


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (b"\x82\x00", "begins with 8200"),
        (b"\x81\x80", "begins with 8180"),
        (b"\x01\x00", "begins with 0100"),
        (b"\x81\x7f" + (MAX_FRAME_BYTES + 1).to_bytes(8, "big"), "a frame of 67,108,865 bytes"),
    ],
)
def test_frames_that_no_server_of_this_project_sends(sent: bytes, fault: str) -> None:
    with pytest.raises(ServerFault, match=fault):
        read_frame(sent, 0)


def deflated(text: bytes) -> bytes:
    return Deflater(LARGEST_WINDOW).deflate(text).removesuffix(TAIL)


def test_a_compressed_frame_only_where_it_was_agreed_to() -> None:
    payload = deflated(b"hello")
    frame = deflated_frame(payload)
    assert read_frame(frame, 0, COMPRESSED_KINDS) == (FIN_DEFLATED, 2, len(frame))
    assert inflate(payload) == b"hello"
    with pytest.raises(ServerFault, match="begins with c1"):
        read_frame(frame, 0)


def test_compressed_payloads_that_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServerFault, match="a damaged compressed message"):
        inflate(b"\xff\xff")
    monkeypatch.setattr("pubsub.client.frames.MAX_FRAME_BYTES", 1000)
    assert len(inflate(deflated(bytes(1000)))) == 1000
    with pytest.raises(ServerFault, match="more than 1,000 bytes"):
        inflate(deflated(bytes(10_000)))
