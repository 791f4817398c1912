"""Conformance to RFC 6455, as tables of cases for scripts/echo.py in its own process.

Each case has the sent bytes, the frames that answer them, and the end of the connection, or ``STAYS``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pubsub.protocol.frames import BINARY, CLOSE, CLOSE_CODES, CONTINUATION, FIN, PING, PONG, TEXT
from tests.harness import PATIENCE, EchoProcess, RawClient, frame_header, masked_frame, on_one_loop

LARGEST = 16 << 20  # the limit of the echo
STAYS = None
SIZES = [0, 125, 126, 127, 128, 65_535, 65_536]
OPCODES = {"text": TEXT, "binary": BINARY}

Frame = tuple[int, bytes]


@dataclass(frozen=True)
class Case:
    sent: bytes
    answers: list[Frame]
    close: int | None = STAYS
    piece: int = 1 << 30  # bytes sent at a time


def frame(opcode: int, payload: bytes = b"") -> bytes:
    return masked_frame(FIN | opcode, payload)


def text(payload: bytes) -> bytes:
    return frame(TEXT, payload)


def fragments(opcode: int, *parts: bytes, between: bytes = b"") -> bytes:
    """Split a message into this number of frames, with ``between`` after each one but the last."""
    first, *others = parts
    frames = [masked_frame(opcode, first), *(masked_frame(CONTINUATION, part) for part in others[:-1])]
    return b"".join(each + between for each in frames) + masked_frame(FIN | CONTINUATION, others[-1])


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def echoed(*payloads: bytes) -> list[Frame]:
    return [(FIN | TEXT, payload) for payload in payloads]


def refused(sent: bytes, *, close: int = 1002, after: tuple[bytes, ...] = ()) -> Case:
    return Case(sent, echoed(*after), close)


HELLO = text(b"hello")

FRAMING = {
    **{
        f"{size} bytes of {kind}": Case(frame(opcode, b"*" * size), [(FIN | opcode, b"*" * size)])
        for kind, opcode in OPCODES.items()
        for size in SIZES
    },
    "in pieces": Case(text(b"*" * 65_536), echoed(b"*" * 65_536), piece=997),
    "byte by byte": Case(text(b"*" * 200) + frame(BINARY, b"\0\xff"), [*echoed(b"*" * 200), (FIN | BINARY, b"\0\xff")],
                         piece=1),
    "many in one piece": Case(HELLO * 1000, echoed(*[b"hello"] * 1000)),
    "a length in more bytes than it needs": Case(bytes((0x81, 0xFE, 0, 5)) + HELLO[2:], echoed(b"hello")),
}  # fmt: skip

PINGS = {
    **{
        f"a ping of {len(payload)} bytes": Case(frame(PING, payload), [(FIN | PONG, payload)])
        for payload in (b"", b"hello", b"\x00\xff\xfe\xfd", b"\xfe" * 125)
    },
    "a ping byte by byte": Case(frame(PING, b"\xfe" * 125), [(FIN | PONG, b"\xfe" * 125)], piece=1),
    "a ping of 126 bytes": refused(frame(PING, b"\xfe" * 126)),
    "a pong that nobody asked for": Case(frame(PONG) + frame(PONG, b"hello"), []),
    "a pong, then a ping": Case(frame(PONG, b"pong") + frame(PING, b"ping"), [(FIN | PONG, b"ping")]),
    "a pong of 126 bytes": refused(frame(PONG, b"\xfe" * 126)),
    "ten pings": Case(
        b"".join(frame(PING, b"%d" % number) for number in range(10)),
        [(FIN | PONG, b"%d" % number) for number in range(10)],
    ),
}

RESERVED = {
    f"reserved bits {bits:03b} in {name}": refused(
        HELLO + masked_frame(FIN | bits << 4 | opcode, b"x"), after=(b"hello",)
    )
    for bits in range(1, 8)
    for name, opcode in {**OPCODES, "ping": PING, "pong": PONG, "close": CLOSE}.items()
}  # fmt: skip

RESERVED_OPCODES = {
    f"opcode {opcode} with {len(payload)} bytes": refused(HELLO + frame(opcode, payload), after=(b"hello",))
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    for payload in (b"", b"reserved")
}

UNMASKED = {
    f"{name} without a mask": refused(HELLO + frame_header(FIN | opcode, 0, masked=False), after=(b"hello",))
    for name, opcode in {**OPCODES, "ping": PING, "close": CLOSE}.items()
}

FRAGMENTS = {
    **{
        f"{name} in fragments": refused(masked_frame(opcode, b"a") + frame(CONTINUATION, b"b"))
        for name, opcode in {"ping": PING, "pong": PONG, "close": CLOSE}.items()
    },
    "text in two": Case(fragments(TEXT, b"a", b"b"), echoed(b"ab")),
    "binary in three": Case(fragments(BINARY, b"\xff", b"", b"\x00"), [(FIN | BINARY, b"\xff\x00")]),
    "empty ones": Case(fragments(TEXT, b"", b"", b""), echoed(b"")),
    "empty ones around the middle": Case(fragments(TEXT, b"", b"middle", b""), echoed(b"middle")),
    "byte by byte": Case(fragments(TEXT, b"ab", b"cd", b"ef"), echoed(b"abcdef"), piece=1),
    "pings between": Case(
        fragments(TEXT, b"a", b"b", b"c", between=frame(PING, b"!")), [(FIN | PONG, b"!")] * 2 + echoed(b"abc")
    ),
    "pongs between": Case(fragments(TEXT, b"a", b"b", between=frame(PONG, b"!")), echoed(b"ab")),
    "a continuation of nothing": refused(frame(CONTINUATION, b"a") + HELLO),
    "a continuation of nothing that goes on": refused(masked_frame(CONTINUATION, b"a") + HELLO),
    "a continuation after the end": refused(fragments(TEXT, b"a", b"b") + frame(CONTINUATION, b"c"), after=(b"ab",)),
    **{
        f"{name} within text, {'whole' if fin else 'in fragments'}": refused(
            masked_frame(TEXT, b"a") + masked_frame(fin | opcode, b"b")
        )
        for name, opcode in OPCODES.items()
        for fin in (0, FIN)
    },
    "ten continuations of nothing in between": refused(
        (fragments(TEXT, b"a", b"b") + masked_frame(CONTINUATION, b"c")) * 5, after=(b"ab",)
    ),
}  # fmt: skip

# UTF-8: first and last of each length, neighbours of the surrogates, non-characters (which are allowed), the BOM.
VALID_TEXT = [
    *("κόσμε", "Hello-µ@ßöäüàá-UTF-8!!", "\0", "\x7f", "\x80", "\u07ff", "\u0800", "\uffff", "\U00010000"),
    *("\U0010ffff", "\ud7ff", "\ue000", "\ufffd", "\ufeff", "\ufdd0", "\ufdef", "\ufffe"),
    *(chr(plane << 16 | last) for plane in range(1, 17) for last in (0xFFFE, 0xFFFF)),
]
INVALID_TEXT = {
    "above 10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "five bytes, the last": b"\xfb\xbf\xbf\xbf\xbf",
    "six bytes": b"\xfc\x84\x80\x80\x80\x80",
    "six bytes, the last": b"\xfd\xbf\xbf\xbf\xbf\xbf",
    "the last of four bytes": b"\xf7\xbf\xbf\xbf",
    **{f"{count} continuations": b"\x80\xbf" * (count // 2) + b"\x80" * (count % 2) for count in range(1, 8)},
    "all continuations": bytes(range(0x80, 0xC0)),
    "lonely beginnings of two": b"".join(bytes((byte, 0x20)) for byte in range(0xC0, 0xE0)),
    "lonely beginnings of three": b"".join(bytes((byte, 0x20)) for byte in range(0xE0, 0xF0)),
    "lonely beginnings of four": b"".join(bytes((byte, 0x20)) for byte in range(0xF0, 0xF8)),
    "lonely beginnings of five and six": b"\xf8 \xf9 \xfa \xfb \xfc \xfd ",
    **{
        f"the end is missing: {whole[:-1].hex()}": whole[:-1]
        for whole in map(str.encode, "é€😀\u07ff\uffff\U0010ffff")
    },
    "several ends are missing": b"\xc3\xe2\x82\xf0\x9f\x98",
    "fe": b"\xfe",
    "ff": b"\xff",
    "fe fe ff ff": b"\xfe\xfe\xff\xff",
    **{
        f"overlong {spelled}": bytes.fromhex(spelled)
        for spelled in ("c0af", "e080af", "f08080af", "f8808080af", "c1bf", "c080", "e09fbf", "f08fbfbf", "e08080",
                        "f0808080")
    },
    **{
        f"surrogate {code:x}": chr(code).encode(errors="surrogatepass")
        for code in (0xD800, 0xDB7F, 0xDB80, 0xDBFF, 0xDC00, 0xDF80, 0xDFFF)
    },
    "a pair of surrogates": "\ud800\udc00".encode(errors="surrogatepass"),
    "text around it": "κόσμε".encode() + b"\xed\xa0\x80edited",
}  # fmt: skip


def single_bytes(payload: bytes) -> list[bytes]:
    return [payload[at : at + 1] for at in range(len(payload))]


def valid_cases() -> Iterator[tuple[str, Case]]:
    for valid in VALID_TEXT:
        payload = valid.encode()
        name = f"{ord(valid):x}" if len(valid) == 1 else ascii(valid)
        yield name, Case(text(payload), echoed(payload))
        if len(payload) > 1:
            yield f"{name} byte by byte", Case(fragments(TEXT, *single_bytes(payload)), echoed(payload))


UTF8 = {
    **dict(valid_cases()),
    **{name: refused(text(sent), close=1007) for name, sent in INVALID_TEXT.items()},
    **{
        f"{name} in fragments": refused(fragments(TEXT, b"", *single_bytes(sent), b""), close=1007)
        for name, sent in INVALID_TEXT.items()
    },
    "a whole character at each cut": Case(fragments(TEXT, "κό".encode(), "σμε".encode()), echoed("κόσμε".encode())),
    "a ping between two parts of a character": Case(
        fragments(TEXT, b"\xce", b"\xba", between=frame(PING)), [(FIN | PONG, b""), *echoed("κ".encode())]
    ),
    "binary may be anything": Case(frame(BINARY, b"\xff\xed\xa0\x80"), [(FIN | BINARY, b"\xff\xed\xa0\x80")]),
    "the next message begins anew": Case(fragments(TEXT, b"a", b"\xc3\xa9") + text("é".encode()),
                                         echoed("aé".encode(), "é".encode())),
    # The fault is in a fragment that is not the last: the server does not wait for the rest.
    "early, in a later fragment": refused(
        masked_frame(TEXT, "κόσμε".encode()) + masked_frame(CONTINUATION, b"\xf4\x90\x80\x80"), close=1007
    ),
    "early, between two fragments": refused(
        masked_frame(TEXT, "κόσμε".encode() + b"\xf4") + masked_frame(CONTINUATION, b"\x90"), close=1007
    ),
    "early, in the first fragment": refused(masked_frame(TEXT, b"\xff"), close=1007),
}  # fmt: skip

CLOSES = {
    "without a code": Case(frame(CLOSE), [(FIN | CLOSE, b"")]),
    **{
        f"code {code}": Case(closing(code, b"bye"), [(FIN | CLOSE, code.to_bytes(2, "big"))])
        for code in (*sorted(CLOSE_CODES), 3000, 3999, 4000, 4999)
    },
    "a reason of 123 bytes": Case(closing(1000, b"*" * 123), [(FIN | CLOSE, b"\x03\xe8")]),
    "behind a message": Case(HELLO + closing(1000), [*echoed(b"hello"), (FIN | CLOSE, b"\x03\xe8")]),
    "a message behind it": Case(closing(1000) + HELLO, [(FIN | CLOSE, b"\x03\xe8")]),
    "a ping behind it": Case(closing(1000) + frame(PING), [(FIN | CLOSE, b"\x03\xe8")]),
    "garbage behind it": Case(closing(1000) + b"\xff" * 1000, [(FIN | CLOSE, b"\x03\xe8")]),
    "a second one": Case(closing(1000) * 2, [(FIN | CLOSE, b"\x03\xe8")]),
    "within a message": Case(masked_frame(TEXT, b"a") + closing(1000) + frame(CONTINUATION, b"b"),
                             [(FIN | CLOSE, b"\x03\xe8")]),
    "byte by byte": Case(closing(1000, "adiós".encode()), [(FIN | CLOSE, b"\x03\xe8")], piece=1),
}  # fmt: skip

BAD_CLOSES = {
    "of one byte": refused(frame(CLOSE, b"\x03")),
    "of 126 bytes": refused(closing(1000, b"*" * 124)),
    "with a reason that is no UTF-8": refused(closing(1000, b"\xce\xba\xff"), close=1007),
    "with a reason with a surrogate": refused(closing(1000, b"\xed\xa0\x80"), close=1007),
    **{
        f"code {code}": refused(closing(code, reason))
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
        for reason in (b"",)
    },
}

LONG = {
    **{
        f"{size} bytes of {kind}": Case(frame(opcode, b"*" * size), [(FIN | opcode, b"*" * size)])
        for kind, opcode in OPCODES.items()
        for size in (1 << 18, 1 << 20, 1 << 22)
    },
    **{
        f"a megabyte in fragments of {size}": Case(
            fragments(TEXT, *[b"*" * size] * ((1 << 20) // size)), echoed(b"*" * (1 << 20))
        )
        for size in (256, 4096, 1 << 16)
    },
    "a megabyte in pieces": Case(text(b"*" * (1 << 20)), echoed(b"*" * (1 << 20)), piece=1300),
    "64 KiB in fragments of 1300": Case(
        fragments(TEXT, *[b"*" * 1300] * 50, b"*" * 536), echoed(b"*" * 65_536), piece=4000
    ),
}

LIMITS = {
    "a header of one byte more": refused(frame_header(FIN | TEXT, LARGEST + 1, masked=True), close=1009),
    "a header of the largest frame": refused(frame_header(FIN | BINARY, (1 << 63) - 1, masked=True), close=1009),
    "a header with the highest bit": refused(frame_header(FIN | TEXT, (1 << 64) - 1, masked=True), close=1009),
}  # fmt: skip


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    """Run an echo; yield its port."""
    with EchoProcess() as process:
        yield process.port


def cases(**tables: dict[str, Case]) -> pytest.MarkDecorator:
    named = [(f"{table}: {name}", case) for table, rows in tables.items() for name, case in rows.items()]
    return pytest.mark.parametrize("case", [case for _, case in named], ids=[name for name, _ in named])


async def check(port: int, case: Case) -> None:
    client = await RawClient.connect(port)
    with contextlib.suppress(ConnectionError):  # the server may have closed before the end
        for at in range(0, len(case.sent), case.piece):
            await client.send(case.sent[at : at + case.piece])
            await asyncio.sleep(0)
    answers = [await client.read_frame() for _ in case.answers]
    assert answers == case.answers
    if case.close is not STAYS:
        assert await client.close_code() == case.close
    elif answers and case.answers[-1][0] == FIN | CLOSE:
        assert await client.is_gone()
    else:
        await client.send(frame(PING, b"still here"))
        assert await client.read_frame() == (FIN | PONG, b"still here")
    client.close()


@cases(framing=FRAMING, pings=PINGS, fragments=FRAGMENTS, utf8=UTF8, closes=CLOSES, long=LONG)
@on_one_loop
async def test_row_1_and_4_frames_mean_what_the_rfc_says(echo: int, case: Case) -> None:
    await check(echo, case)


@cases(masks=UNMASKED)
@on_one_loop
async def test_row_2_a_frame_without_a_mask_ends_the_connection(echo: int, case: Case) -> None:
    await check(echo, case)


@cases(bits=RESERVED, opcodes=RESERVED_OPCODES)
@on_one_loop
async def test_row_3_what_is_reserved_ends_the_connection(echo: int, case: Case) -> None:
    await check(echo, case)


@cases(closes=BAD_CLOSES)
@on_one_loop
async def test_row_5_a_close_frame_that_is_wrong_ends_the_connection(echo: int, case: Case) -> None:
    await check(echo, case)


@on_one_loop
async def test_row_5_who_closed_badly_is_gone_within_a_second_whatever_it_does(echo: int) -> None:
    clients = [await RawClient.connect(echo) for _ in BAD_CLOSES]
    async with asyncio.timeout(3):  # a second, and two for a busy machine
        for client, case in zip(clients, BAD_CLOSES.values(), strict=True):
            await client.send(case.sent)
        await asyncio.gather(*(client.is_gone() for client in clients))


@cases(limits=LIMITS)
@on_one_loop
async def test_row_7_a_frame_too_long_is_refused_by_its_header(echo: int, case: Case) -> None:
    await check(echo, case)


@on_one_loop
async def test_row_8_a_message_too_long_is_refused_with_the_header_that_makes_it_so(echo: int) -> None:
    client = await RawClient.connect(echo)
    quarter = b"*" * (LARGEST // 4)
    await client.send(masked_frame(TEXT, quarter) + masked_frame(CONTINUATION, quarter) * 3)
    await client.send(frame(PING))
    assert await client.read_frame() == (FIN | PONG, b""), "exactly the limit is no fault yet"
    await client.send(frame_header(CONTINUATION, 1, masked=True))
    assert await client.close_code() == 1009
    assert await client.is_gone()


@on_one_loop
async def test_after_1007_the_clients_close_ends_the_connection_at_once(echo: int) -> None:
    """A wait for each of the thirty would take 27 seconds."""
    async with asyncio.timeout(PATIENCE):
        for sent in [text(b"\xff"), masked_frame(TEXT, b"\xff"), closing(1000, b"\xff")] * 10:
            client = await RawClient.connect(echo)
            await client.send(sent)
            assert await client.close_code() == 1007
            await client.send(closing(1007))
            assert await client.is_gone()


@on_one_loop
async def test_row_5_frames_after_the_servers_close_are_harmless(echo: int) -> None:
    client = await RawClient.connect(echo)
    other = await RawClient.connect(echo)
    await client.send(frame(3))
    assert await client.close_code() == 1002
    with contextlib.suppress(ConnectionError):
        for sent in (HELLO, b"\xff" * 100, frame_header(FIN | TEXT, 1 << 60, masked=True), closing(1002)):
            await client.send(sent)
    assert await client.is_gone()
    async with asyncio.timeout(PATIENCE):
        await other.send(HELLO)
        assert await other.read_frame() == echoed(b"hello")[0]
