"""The frame reader, with bytes cut at every place and with everything that RFC 6455 forbids; and built frames."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from aiohttp._websocket.helpers import websocket_mask
from hypothesis import given
from hypothesis import strategies as st

from pubsub.protocol.errors import CloseReason
from pubsub.protocol.frame_reader import Reader
from pubsub.protocol.frames import (
    CLOSE,
    LONG_TEXT,
    PING,
    PONG,
    Binary,
    CloseFrame,
    Fragment,
    LongText,
    PingFrame,
    PongFrame,
    ProtocolFault,
    Received,
    close_frame,
    control_frame,
    text_frame,
    text_frames,
)
from tests.harness import frame_header, masked_frame

FIN_TEXT, FIN_BINARY, FIN_CONTINUATION = 0x81, 0x82, 0x80
TEXT, BINARY, CONTINUATION = 0x01, 0x02, 0x00
MAX_BYTES = 1000


def make_reader() -> Reader:
    return Reader(MAX_BYTES, websocket_mask)


def read_all(reader: Reader, *pieces: bytes) -> list[Received]:
    found = []
    for piece in pieces:
        reader.feed(piece)
        while (received := reader.read()) is not None:
            found.append(received)
    return found


def read_ahead(reader: Reader, most: int, served: int, *pieces: bytes) -> list[Received]:
    """Read as a connection does: texts together, of which ``served`` are served and the others are read again."""
    found: list[Received] = []
    for piece in pieces:
        reader.feed(piece)
        while True:
            if texts := reader.read_texts(most):
                found += texts[:served]
                assert reader.end_texts(min(served, len(texts))) is not reader.unfinished
            elif (received := reader.read()) is not None:
                found.append(received)
            else:
                break
    return found


def without_fragments(received: list[Received]) -> list[Received]:
    return [each for each in received if type(each) is not Fragment]


MESSAGES: list[tuple[bytes, list[Received]]] = [
    (masked_frame(FIN_TEXT, b""), [""]),
    (masked_frame(FIN_TEXT, "grüß".encode()), ["grüß"]),
    (masked_frame(FIN_TEXT, b"x" * 125) + masked_frame(FIN_TEXT, b"y" * 126), ["x" * 125, "y" * 126]),
    (masked_frame(FIN_TEXT, b"x" * MAX_BYTES), ["x" * MAX_BYTES]),
    (masked_frame(TEXT, b"a") + masked_frame(CONTINUATION, b"") + masked_frame(FIN_CONTINUATION, b"b"), ["ab"]),
    (masked_frame(TEXT, "ü".encode()[:1]) + masked_frame(FIN_CONTINUATION, "ü".encode()[1:]), ["ü"]),
    (
        masked_frame(TEXT, b"a") + masked_frame(0x89, b"!") + masked_frame(FIN_CONTINUATION, b"b"),
        [PingFrame(b"!"), "ab"],
    ),
    (masked_frame(FIN_BINARY, b"\xff\x00"), [Binary(bytearray(b"\xff\x00"))]),
    (masked_frame(BINARY, b"\xff") + masked_frame(FIN_CONTINUATION, b"\x00"), [Binary(bytearray(b"\xff\x00"))]),
    (masked_frame(0x89, b"") + masked_frame(0x8A, b"x" * 125), [PingFrame(b""), PongFrame(b"x" * 125)]),
    (masked_frame(0x88, b""), [CloseFrame(None, "")]),
    (masked_frame(0x88, b"\x03\xe8bye"), [CloseFrame(1000, "bye")]),
]


@pytest.mark.parametrize(("sent", "expected"), MESSAGES)
def test_reads_messages_however_they_are_cut(sent: bytes, expected: list[Received]) -> None:
    assert without_fragments(read_all(make_reader(), sent)) == expected
    assert without_fragments(read_all(make_reader(), *(sent[at : at + 1] for at in range(len(sent))))) == expected
    for cut in range(len(sent)):
        assert without_fragments(read_all(make_reader(), sent[:cut], sent[cut:])) == expected


@pytest.mark.parametrize("size", [*range(LONG_TEXT - 15, LONG_TEXT + 17), 5 * LONG_TEXT])
def test_reads_long_messages_however_they_are_cut(size: int) -> None:
    content = bytes(range(33, 97)) * (size // 64) + b"x" * (size % 64)
    text = LongText(bytearray(content)) if size > LONG_TEXT else content.decode()
    fragments = masked_frame(TEXT, content[:-100]) + masked_frame(FIN_CONTINUATION, content[-100:])
    sent = masked_frame(FIN_TEXT, content) + masked_frame(FIN_TEXT, b"short") + masked_frame(FIN_BINARY, content)
    expected = [text, "short", Binary(bytearray(content)), text, "short"]
    sent += fragments + masked_frame(FIN_TEXT, b"short")
    for step in (1500, 40_000, len(sent)):
        reader = Reader(5 * LONG_TEXT, websocket_mask)
        pieces = [sent[at : at + step] for at in range(0, len(sent), step)]
        assert without_fragments(read_all(reader, *pieces)) == expected
        assert not reader.unfinished


@given(st.lists(st.sampled_from(MESSAGES), max_size=5), st.lists(st.integers(0, 3000), max_size=10))
def test_any_stream_in_any_pieces(messages: list[tuple[bytes, list[Received]]], cuts: list[int]) -> None:
    stream = b"".join(sent for sent, _ in messages)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    reader = make_reader()
    assert without_fragments(read_all(reader, *pieces)) == [each for _, expected in messages for each in expected]
    assert not reader.unfinished


@given(
    st.lists(st.sampled_from(MESSAGES), max_size=9),
    st.lists(st.integers(0, 3000), max_size=6),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_texts_that_are_read_together_are_those_that_are_read_alone(
    messages: list[tuple[bytes, list[Received]]], cuts: list[int], most: int, served: int
) -> None:
    stream = b"".join(sent for sent, _ in messages)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    reader = make_reader()
    found = without_fragments(read_ahead(reader, most, served, *pieces))
    assert found == [each for _, expected in messages for each in expected]
    assert not reader.unfinished


@pytest.mark.parametrize(
    "second",
    [
        frame_header(FIN_TEXT, 2, masked=False) + b"{}",
        frame_header(FIN_TEXT, 200, masked=False) + b"x" * 200,
        masked_frame(FIN_TEXT, b"\xff"),
        masked_frame(FIN_TEXT, b"x" * (MAX_BYTES + 1)),
        masked_frame(0xC1, b"{}"),
        masked_frame(0x89, b"x" * 126),
    ],
)
def test_texts_before_a_fault_are_read_and_the_fault_is_left_to_read(second: bytes) -> None:
    reader = make_reader()
    reader.feed(masked_frame(FIN_TEXT, b"first") + second)
    assert reader.read_texts(9) == ["first"]
    assert not reader.end_texts(1)
    assert reader.read_texts(9) == []
    with pytest.raises(ProtocolFault):
        reader.read()


@pytest.mark.parametrize(
    ("sent", "close_reason"),
    [
        (frame_header(FIN_TEXT, 2, masked=False) + b"{}", CloseReason.PROTOCOL_ERROR),
        (frame_header(FIN_TEXT, 300, masked=False), CloseReason.PROTOCOL_ERROR),
        *[(masked_frame(first, b""), CloseReason.PROTOCOL_ERROR) for first in (0xC1, 0xA1, 0x91, 0xF1)],
        *[
            (masked_frame(0x80 | opcode, b""), CloseReason.PROTOCOL_ERROR)
            for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
        ],
        *[(masked_frame(opcode, b""), CloseReason.PROTOCOL_ERROR) for opcode in (CLOSE, PING, PONG)],
        (masked_frame(0x89, b"x" * 126), CloseReason.PROTOCOL_ERROR),
        (masked_frame(FIN_CONTINUATION, b""), CloseReason.PROTOCOL_ERROR),
        (masked_frame(CONTINUATION, b""), CloseReason.PROTOCOL_ERROR),
        (masked_frame(TEXT, b"a") + masked_frame(FIN_TEXT, b"b"), CloseReason.PROTOCOL_ERROR),
        (masked_frame(TEXT, b"") + masked_frame(FIN_TEXT, b"b"), CloseReason.PROTOCOL_ERROR),
        (masked_frame(TEXT, b"a") + masked_frame(BINARY, b"b"), CloseReason.PROTOCOL_ERROR),
        (masked_frame(FIN_TEXT, b"\xff"), CloseReason.INVALID_TEXT),
        (masked_frame(FIN_TEXT, "\ud800".encode(errors="surrogatepass")), CloseReason.INVALID_TEXT),
        (masked_frame(TEXT, "ü".encode()[:1]) + masked_frame(FIN_CONTINUATION, b"x"), CloseReason.INVALID_TEXT),
        (masked_frame(0x88, b"\x03\xe8\xff"), CloseReason.INVALID_TEXT),
        (masked_frame(0x88, b"\x03"), CloseReason.PROTOCOL_ERROR),
        *[
            (masked_frame(0x88, code.to_bytes(2, "big")), CloseReason.PROTOCOL_ERROR)
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
        ],
        (frame_header(FIN_TEXT, MAX_BYTES + 1, masked=True), CloseReason.TOO_BIG),
        (frame_header(FIN_BINARY, 2**63 - 1, masked=True), CloseReason.TOO_BIG),
        (
            masked_frame(TEXT, b"x" * MAX_BYTES) + frame_header(FIN_CONTINUATION, 1, masked=True),
            CloseReason.TOO_BIG,
        ),
    ],
)
def test_refuses_what_the_rfc_forbids_as_soon_as_it_shows(sent: bytes, close_reason: CloseReason) -> None:
    for pieces in ([sent], [sent[at : at + 1] for at in range(len(sent))]):
        with pytest.raises(ProtocolFault) as caught:
            read_all(make_reader(), *pieces)
        assert caught.value.close_reason is close_reason


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1012, 1014, 3000, 4999])
def test_takes_each_close_code_that_may_be_sent(code: int) -> None:
    assert read_all(make_reader(), masked_frame(0x88, code.to_bytes(2, "big"))) == [CloseFrame(code, "")]


@given(st.binary(max_size=300))
def test_garbage_is_a_fault_or_waits_for_more(garbage: bytes) -> None:
    with contextlib.suppress(ProtocolFault):
        read_all(make_reader(), garbage)


def test_tells_a_message_that_has_begun() -> None:
    reader = make_reader()
    frame = masked_frame(FIN_TEXT, b"hello")
    for cut in range(1, len(frame)):
        assert read_all(reader, frame[:cut]) == []
        assert reader.unfinished
        assert read_all(reader, frame[cut:]) == ["hello"]
        assert not reader.unfinished
    assert read_all(reader, masked_frame(TEXT, b"")) == [Fragment(0)]
    assert reader.unfinished
    assert read_all(reader, masked_frame(FIN_CONTINUATION, b"")) == [""]
    assert not reader.unfinished


def test_tells_of_fragments_that_are_whole_and_only_of_those() -> None:
    reader = make_reader()
    assert read_all(reader, masked_frame(TEXT, b"a"), masked_frame(CONTINUATION, b"b")[:-1]) == [Fragment(1)]
    assert reader.within_message
    assert read_all(reader, masked_frame(CONTINUATION, b"b")[-1:]) == [Fragment(1)]
    assert read_all(reader, masked_frame(FIN_CONTINUATION, b"")) == ["ab"]
    assert not reader.within_message


def test_text_is_refused_with_the_fragment_in_which_it_shows_to_be_none() -> None:
    reader = make_reader()
    whole, cut, invalid = masked_frame(TEXT, "€".encode()), masked_frame(CONTINUATION, b"\xf4"), b"\x90"
    assert read_all(reader, whole, cut) == [Fragment(3), Fragment(1)]
    with pytest.raises(ProtocolFault, match="at byte 3"):
        read_all(reader, masked_frame(CONTINUATION, invalid))


def test_can_be_left_at_any_message_and_taken_up_again() -> None:
    reader = make_reader()
    reader.feed(masked_frame(FIN_TEXT, b"a") + masked_frame(FIN_TEXT, b"b") + masked_frame(FIN_TEXT, b"c")[:3])
    assert reader.read() == "a"
    reader.feed(masked_frame(FIN_TEXT, b"c")[3:])
    assert [reader.read(), reader.read(), reader.read()] == ["b", "c", None]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_builds_text_frames(size: int) -> None:
    frame = text_frame(b"x" * size)
    assert frame == frame_header(FIN_TEXT, size, masked=False) + b"x" * size
    assert text_frames([b"x" * size, b"y"]) == frame + b"\x81\x01y"


def test_builds_control_frames() -> None:
    assert control_frame(PING) == b"\x89\x00"
    assert control_frame(PONG, b"hi") == b"\x8a\x02hi"
    for close_reason in CloseReason:
        frame = close_frame(close_reason)
        assert frame[2:4] == close_reason.code.to_bytes(2, "big")
        assert frame[4:].decode() == close_reason.reason
