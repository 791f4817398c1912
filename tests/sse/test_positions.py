"""Ids that clients send back."""

from __future__ import annotations

import pytest

from pubsub.protocol.errors import BadRequest
from pubsub.protocol.requests import Position
from pubsub.sse.positions import position_id, read_position


@pytest.mark.parametrize("seq", [0, 1, 999_999_999_999_999])
def test_an_id_is_read_as_it_was_written(seq: int) -> None:
    assert read_position(position_id("k3f9", seq).decode()) == Position("k3f9", seq)


@pytest.mark.parametrize(
    "text",
    ["k3f9", ":1", "k3f9:", "k3f9:-1", "k3f9:1.0", "k3f9:+1", "k3f9: 1", "k3f9:1 ", "k3f9:1:1", "k3f9:\u0661",
     "k\u00e9:1", "k3f9:0x1", "k3f9:1\n", f"{'k' * 65}:1", f"k3f9:{'1' * 16}", "k3f9:" + "9" * 5000,
     "\udcff:1", "k 3:1", "*"],
)  # fmt: skip
def test_any_other_text_is_refused_by_name_and_shown_in_short(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^Last-Event-ID: expected") as refusal:
        read_position(text)
    assert len(str(refusal.value)) < 200
    assert str(refusal.value).isprintable()
