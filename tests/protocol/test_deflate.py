"""permessage-deflate: offers of every kind and the answer to each, and deflated frames of every wrong kind."""

from __future__ import annotations

import zlib

import pytest
from aiohttp._websocket.helpers import websocket_mask
from hypothesis import given
from hypothesis import strategies as st

from pubsub.protocol.deflate import TAIL, Deflater, DeflateReader, agree, deflated_frame
from pubsub.protocol.errors import CloseReason
from pubsub.protocol.frames import LONG_TEXT, Binary, Fragment, LongText, PingFrame, ProtocolFault, Received
from tests.harness import masked_frame

ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
FIN, DEFLATED, TEXT, BINARY, CONTINUATION, CLOSE, PING = 0x80, 0x40, 1, 2, 0, 8, 9
MAX_BYTES = 100_000


@pytest.mark.parametrize(
    ("offers", "window"),
    [
        ("permessage-deflate", 15),
        ("permessage-deflate; client_max_window_bits", 15),  # Chromium
        ("permessage-deflate ;client_max_window_bits=10 ; server_no_context_takeover", 15),
        ("permessage-deflate; client_no_context_takeover; server_max_window_bits=9", 9),
        ('permessage-deflate; server_max_window_bits="12"', 12),
        ("permessage-deflate; server_max_window_bits=15", 15),
        ("x-webkit-deflate-frame, permessage-deflate", 15),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", 15),  # zlib has no raw stream of 8
        ("permessage-deflate; dictionary=2, permessage-deflate; server_max_window_bits=11", 11),
        (", ,permessage-deflate", 15),
    ],
)
def test_the_first_offer_that_can_be_met_is_accepted(offers: str, window: int) -> None:
    agreement = agree(offers)
    assert agreement is not None
    assert agreement.window == window
    assert agreement.answer == (ANSWER if window == 15 else f"{ANSWER}; server_max_window_bits={window}")


@pytest.mark.parametrize(
    "offers",
    [
        "",
        ",",
        "permessage-bzip2",
        "permessage-deflate2",
        "permessage-deflate; unknown",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=٩",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=abc",
        "permessage-deflate;",
        "permessage-deflate; =10",
        'permessage-deflate; server_max_window_bits="10',
        "permessage-deflate, " * 0 + "x, " * 16 + "permessage-deflate",  # more offers than are read
    ],
)
def test_other_offers_are_declined(offers: str) -> None:
    assert agree(offers) is None


def deflate(plain: bytes, *, window: int = 15) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -window)
    return (stream.compress(plain) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def read_all(*pieces: bytes) -> list[Received]:
    reader = DeflateReader(MAX_BYTES, websocket_mask)
    found = []
    for piece in pieces:
        reader.feed(piece)
        while (received := reader.read()) is not None:
            if type(received) is not Fragment:
                found.append(received)
    return found


TEXT_FRAME = masked_frame(FIN | DEFLATED | TEXT, deflate(b"hello " * 20))
HALVES = deflate("grüß dich".encode())
LAST_BLOCK = zlib.compressobj(6, zlib.DEFLATED, -15)
FINAL = LAST_BLOCK.compress(b"final") + LAST_BLOCK.flush()


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (TEXT_FRAME, ["hello " * 20]),
        (TEXT_FRAME + masked_frame(FIN | TEXT, b"plain") + TEXT_FRAME, ["hello " * 20, "plain", "hello " * 20]),
        (masked_frame(FIN | DEFLATED | BINARY, deflate(b"\xff\x00")), [Binary(bytearray(b"\xff\x00"))]),
        (
            masked_frame(DEFLATED | TEXT, HALVES[:3])
            + masked_frame(FIN | PING, b"!")
            + masked_frame(CONTINUATION, b"")
            + masked_frame(FIN | CONTINUATION, HALVES[3:])
            + masked_frame(TEXT, b"a")
            + masked_frame(FIN | CONTINUATION, b"b"),
            [PingFrame(b"!"), "grüß dich", "ab"],
        ),
        (masked_frame(FIN | DEFLATED | TEXT, b"\x00"), [""]),  # RFC 7692, 7.2.3.6
        (masked_frame(FIN | DEFLATED | TEXT, FINAL + b"\x00"), ["final"]),  # 7.2.3.4
        (masked_frame(FIN | DEFLATED | TEXT, FINAL), ["final"]),
        (masked_frame(FIN | DEFLATED | TEXT, deflate(b"x" * MAX_BYTES)), [LongText(bytearray(b"x" * MAX_BYTES))]),
    ],
)
def test_deflated_messages_are_read_however_they_are_cut(sent: bytes, expected: list[Received]) -> None:
    assert read_all(sent) == expected
    assert read_all(*(sent[at : at + 1] for at in range(len(sent)))) == expected


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (masked_frame(FIN | DEFLATED | TEXT, deflate(b"x" * (MAX_BYTES + 1))), CloseReason.TOO_BIG),
        (masked_frame(FIN | DEFLATED | TEXT, deflate(b"\0" * 50_000_000)), CloseReason.TOO_BIG),
        (masked_frame(FIN | DEFLATED | TEXT, b"\xff\xff\xff"), CloseReason.PROTOCOL_ERROR),
        (masked_frame(FIN | DEFLATED | TEXT, deflate(b"\xff\xfe")), CloseReason.INVALID_TEXT),
        (masked_frame(FIN | DEFLATED | TEXT, FINAL + deflate(b"more")), CloseReason.PROTOCOL_ERROR),
        (masked_frame(FIN | DEFLATED | PING, b""), CloseReason.PROTOCOL_ERROR),
        (masked_frame(FIN | DEFLATED | CLOSE, b""), CloseReason.PROTOCOL_ERROR),
        (masked_frame(FIN | 0x20 | TEXT, b""), CloseReason.PROTOCOL_ERROR),
        (masked_frame(FIN | DEFLATED | 0x10 | TEXT, b""), CloseReason.PROTOCOL_ERROR),
        (masked_frame(FIN | DEFLATED | CONTINUATION, b""), CloseReason.PROTOCOL_ERROR),
        (
            masked_frame(DEFLATED | TEXT, HALVES[:3]) + masked_frame(FIN | DEFLATED | CONTINUATION, HALVES[3:]),
            CloseReason.PROTOCOL_ERROR,
        ),
        (masked_frame(DEFLATED | TEXT, HALVES[:3]) + masked_frame(FIN | TEXT, b"x"), CloseReason.PROTOCOL_ERROR),
    ],
)
def test_wrong_frames_end_the_connection(sent: bytes, reason: CloseReason) -> None:
    with pytest.raises(ProtocolFault) as fault:
        read_all(sent)
    assert fault.value.close_reason is reason


def test_a_bomb_takes_no_more_memory_than_a_message() -> None:
    bomb = masked_frame(FIN | DEFLATED | TEXT, deflate(b"\0" * 50_000_000))
    inflated: list[int] = []
    original = zlib.decompressobj

    class Counted:
        def __init__(self, bits: int) -> None:
            self._stream = original(bits)

        def decompress(self, deflated: bytes, most: int) -> bytes:
            inflated.append(most)
            return self._stream.decompress(deflated, most)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pubsub.protocol.deflate.zlib.decompressobj", Counted)
        with pytest.raises(ProtocolFault):
            read_all(bomb)
    assert inflated == [MAX_BYTES + 1]


@given(texts=st.lists(st.binary(max_size=2000), min_size=1), window=st.integers(9, 15))
def test_each_deflated_text_stands_alone(texts: list[bytes], window: int) -> None:
    """A client may have missed all texts before, and has a window of that size."""
    deflater = Deflater(window)
    for text in texts:
        deflated = deflater.deflate(text * 40)
        assert deflated.endswith(TAIL)
        assert zlib.decompressobj(-window).decompress(deflated) == text * 40


def test_nothing_of_a_text_is_left_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    deflater = Deflater(15)
    with pytest.raises(TypeError):
        deflater.deflate("no bytes")  # type: ignore[arg-type]
    stream = deflater._stream

    class Failing:
        def compress(self, text: bytes) -> bytes:
            return stream.compress(text)

        def flush(self, mode: int) -> bytes:
            raise MemoryError

    monkeypatch.setattr(deflater, "_stream", Failing())
    with pytest.raises(MemoryError):
        deflater.deflate(b"secret" * 100)
    assert zlib.decompressobj(-15).decompress(deflater.deflate(b"next")) == b"next"


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_deflated_frame_has_the_bit_of_the_extension(size: int) -> None:
    frame = deflated_frame(b"x" * size)
    assert frame[0] == FIN | DEFLATED | TEXT
    assert frame.endswith(b"x" * size)
    assert len(frame) == size + (2 if size < 126 else 4 if size < 65_536 else 10)


def test_a_deflated_text_that_is_long_is_a_long_text() -> None:
    (received,) = read_all(masked_frame(FIN | DEFLATED | TEXT, deflate(b"x" * (LONG_TEXT + 1))))
    assert isinstance(received, LongText)
    assert received.decode() == "x" * (LONG_TEXT + 1)
