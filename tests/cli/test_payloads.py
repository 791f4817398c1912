"""Payloads from arguments and from the lines of standard input."""

from __future__ import annotations

import pytest

from pubsub.cli import payloads
from pubsub.cli.payloads import ReadPayload, read_json, read_payloads, read_text
from pubsub.cli.running import Unusable
from tests.cli.running import standard_input


def read_all(text: bytes, read: ReadPayload = read_json, *, blank: bool = False) -> list[bytes]:
    with standard_input(text):
        return [bytes(each) for together in read_payloads(read, blank=blank) for each in together]


@pytest.mark.parametrize("text", ['{"n": 1.50}', "-1", "null", '"a"', "[1,\n2]", "1e400", "12345678901234567890123"])
def test_json_is_taken_as_it_was_written(text: str) -> None:
    assert bytes(read_json(text)) == text.encode()


@pytest.mark.parametrize("text", ["", "hello", "NaN", "01", "'a'", '{"a":1', '1}, "topic": {', '"a\nb"', "[" * 10_000])
def test_other_text_is_not_taken(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected JSON, got .*\(--text publishes text as it is\)"):
        read_json(text)


@pytest.mark.parametrize("read", [read_json, read_text])
def test_bytes_that_are_not_utf_8(read: ReadPayload) -> None:
    with pytest.raises(ValueError, match=r"^expected UTF-8$"):
        read(b'"\xff"'.decode(errors="surrogateescape"))


def test_text_becomes_a_string() -> None:
    assert bytes(read_text('say "hi"')) == b'"say \\"hi\\""'


def test_each_line_is_a_payload() -> None:
    assert read_all(b'1\n{"a":2}\r\n\n  \n"3"') == [b"1", b'{"a":2}', b'"3"']
    assert read_all(b"a\n\nb\n", read_text, blank=True) == [b'"a"', b'""', b'"b"']
    assert read_all(b"") == []


def test_line_that_is_no_json_comes_after_those_before_it() -> None:
    read: list[bytes] = []

    def read_on() -> None:
        for together in read_payloads(read_json, blank=False):
            read.extend(map(bytes, together))

    with standard_input(b"1\n\n2\nthree\n4\n"), pytest.raises(Unusable, match=r"^line 4: expected JSON, got 'three' "):
        read_on()
    assert read == [b"1", b"2"]


def test_line_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payloads, "MAX_LINE_BYTES", 1000)
    assert len(read_all(b'"' + 990 * b"x" + b'"')) == 1
    with pytest.raises(Unusable, match="a line of the input has more than 1,000 bytes"):
        read_all(b'"' + 2000 * b"x")
