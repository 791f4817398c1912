"""Output for a terminal: text without control sequences, and output streams without a reader."""

from __future__ import annotations

import os
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from pubsub.client.terminal import discard_output, escape


def is_inert(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp") and unicodedata.bidirectional(
        character
    ) not in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


@settings(deadline=None)
@given(st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "L"])))
def test_escape_leaves_nothing_that_acts_on_a_terminal(text: str) -> None:
    assert all(map(is_inert, escape(text)))


def test_escape_spells_controls_out_and_keeps_the_rest() -> None:
    assert escape("a\x1b[2J\x9b\x7f\n\u202eb\ud800") == r"a\u001b[2J\u009b\u007f\u000a\u202eb\ud800"
    assert escape("grüße, 日本 🙂‍↔️") == "grüße, 日本 🙂‍↔️"


def test_what_a_closed_pipe_did_not_take_goes_nowhere() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        stream.write("x")
        os.close(reader)
        discard_output(stream)
