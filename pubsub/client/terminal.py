"""Output for people: text that can't act on a terminal, and streams that nobody reads. It must never print."""

import os
import re
from typing import TextIO

# Characters that could move the cursor, paint, ring, reorder or break a line, or could not be printed at all: C0, DEL,
# C1, bidirectional and other invisible controls, line separators, the BOM, and surrogates without a partner.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def escape(text: str) -> str:
    """Return ``text`` with every control character spelled out, as JSON would (``\\u001b``)."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def discard_output(*streams: TextIO) -> None:
    """Send what the streams still hold nowhere, once nobody reads them, or Python reports an error at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
