"""Views: what the engine is given of an event, and what it is never given."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from pubsub.filters.expressions import Path
from pubsub.filters.views import MAX_BYTES, MAX_VALUES, SMALL, Limit, Unreadable, View, open_envelope


def event(payload: bytes, more: bytes = b"") -> bytes:
    return b'{"type":"event","topic":"t","message":{"id":"m1","payload":%b},"seq":1,"ts":"x"%b}' % (payload, more)


def seen(payload: object, *paths: Path, limit: Limit | None = None) -> Any:
    """The payload as a view of these paths shows it."""
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return View(frozenset(paths), frozenset(), limit or Limit()).of(open_envelope(event(text)))["payload"]


FILLER = "x" * SMALL  # makes an event a large one, which is read field by field


@pytest.mark.parametrize("filler", ["", FILLER], ids=["small", "large"])
@pytest.mark.parametrize(
    ("payload", "paths", "expected"),
    [
        ({"a": 1, "b": 2}, [("a",)], {"a": 1}),
        ({"a": {"b": {"c": [1, {"d": None}]}, "e": 1}}, [("a", "b")], {"a": {"b": {"c": [1, {"d": None}]}}}),
        ({"a": {"b": 1, "c": 2}}, [("a", "b"), ("a",)], {"a": {"b": 1, "c": 2}}),
        ({"b": 2}, [("a", "x")], {}),
        ({"a": {}}, [("a", "x")], {"a": {}}),
        ({"a": 7}, [("a", "x")], {"a": None}),
        ({"a": [{"x": 1}]}, [("a", "x")], {"a": None}),
        ({'q"\\': 1, "é\n": 2, "": 3}, [('q"\\',), ("é\n",), ("",)], {'q"\\': 1, "é\n": 2, "": 3}),
        ({"a": {"b": {"c": {"d": {"e": {"f": 1, "g": 2}}}}}}, [("a", "b", "c", "d", "e", "f")], None),
    ],
)
def test_only_the_fields_of_a_view_are_decoded(
    filler: str, payload: dict[str, Any], paths: list[Path], expected: Any
) -> None:
    found = seen({**payload, "filler": filler}, *paths)
    if expected is None:
        assert found["a"]["b"]["c"]["d"]["e"]["f"] == 1
    else:
        assert found == expected


@pytest.mark.parametrize("filler", [b"", FILLER.encode()], ids=["small", "large"])
def test_the_last_of_equal_names_counts_as_in_other_decoders(filler: bytes) -> None:
    assert seen(b'{"a":1,"a":2,"\\u0061":3,"filler":"%b"}' % filler, ("a",)) == {"a": 3}


@pytest.mark.parametrize("payload", [None, 1, "x", [1], True])
def test_a_payload_without_fields_has_none(payload: object) -> None:
    assert seen(payload, ("a",)) is None
    assert seen(payload, ()) == payload


def test_the_other_variables() -> None:
    view = View(frozenset(), frozenset({"id", "topic", "from"}), Limit())
    assert view.of(open_envelope(event(b"1"))) == {"id": "m1", "topic": "t"}
    assert view.of(open_envelope(event(b"1", b',"from":"alice"'))) == {"id": "m1", "topic": "t", "from": "alice"}


def test_a_large_payload_is_read_if_its_fields_are_small() -> None:
    payload = {"kind": "x", "rows": [{"sku": n} for n in range(50_000)]}
    assert seen(payload, ("kind",)) == {"kind": "x"}
    for paths in ((), ("rows",)):
        with pytest.raises(Unreadable):
            seen(payload, paths)


def test_the_fields_of_a_view_together_are_within_its_limit() -> None:
    half = "x" * (MAX_BYTES // 2 - 2)
    assert seen({"a": half, "b": half}, ("a",), ("b",)) == {"a": half, "b": half}
    for more in ("x", "\\"):
        with pytest.raises(Unreadable, match="too large"):
            seen({"a": half, "b": half + more}, ("a",), ("b",))
    with pytest.raises(Unreadable, match="too large"):
        seen({"a": "x" * 3000}, ("a",), limit=Limit(size=3000))


def test_the_values_of_a_view_are_limited() -> None:
    assert seen({"a": [1] * MAX_VALUES, "b": FILLER}, ("a",)) == {"a": [1] * MAX_VALUES}
    objects: list[Any] = [[], {}]
    for large in ([1] * (MAX_VALUES + 2), objects * MAX_VALUES, {str(n): n for n in range(MAX_VALUES + 2)}):
        with pytest.raises(Unreadable, match="too many values"):
            seen({"a": large}, ("a",))
    with pytest.raises(Unreadable, match="too many values"):
        seen({"a": [1, 2, 3]}, ("a",), limit=Limit(values=1))


def test_a_text_with_commas_is_one_value() -> None:
    text = "," * (2 * MAX_VALUES)
    assert seen({"a": text}, ("a",)) == {"a": text}


@pytest.mark.parametrize("filler", [b"", FILLER.encode()], ids=["small", "large"])
@pytest.mark.parametrize("value", [b'"acme\\u0000x"', b'["\\u0000"]', b'{"b\\u0000":1}', b'"\\\\\\u0000"'])
def test_a_string_with_a_nul_is_not_shown(value: bytes, filler: bytes) -> None:
    """The engine would end it at the NUL: "acme\\0x" would be equal to "acme"."""
    payload = b'{"a":%b,"b":1,"filler":"%b"}' % (value, filler)
    for paths in ((), ("a",)):
        with pytest.raises(Unreadable, match="NUL"):
            seen(payload, paths)
    assert seen(payload, ("b",)) == {"b": 1}


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    assert seen(b'{"a":"\\\\u0000"}', ("a",)) == {"a": "\\u0000"}


@pytest.mark.parametrize("filler", [b"", FILLER.encode()], ids=["small", "large"])
@pytest.mark.parametrize("value", [b"18446744073709551616", b"-9223372036854775809", b"[1,[99999999999999999999]]",
                                   b'{"b":{"c":18446744073709551616}}', b"1" * 4000])  # fmt: skip
def test_an_integer_beyond_64_bits_is_not_shown(value: bytes, filler: bytes) -> None:
    """The engine would keep its text, and that of all around it, for ever."""
    payload = b'{"a":%b,"b":1,"filler":"%b"}' % (value, filler)
    for paths in ((), ("a",)):
        with pytest.raises(Unreadable, match="64 bits"):
            seen(payload, paths)
    assert seen(payload, ("b",)) == {"b": 1}


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), "9" * 40, [0.1234567890123456789, 1e300]])
def test_what_only_looks_beyond_64_bits_is_shown(value: object) -> None:
    assert seen({"a": value}, ("a",)) == {"a": value}


@pytest.mark.parametrize("value", [b"1e999", b'"\\ud800"'])
def test_what_cannot_be_decoded_is_an_error_of_the_decoder(value: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        seen(b'{"a":%b}' % value, ("a",))
