"""Text for a terminal: nothing that a server or another client chose may act on it. It must never print."""

import re

# Characters that could move the cursor, paint, ring, reorder or break a line, or could not be printed at all: C0, DEL,
# C1, bidirectional and other invisible controls, line separators, the BOM, and surrogates without a partner.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def escape(text: str) -> str:
    """Return ``text`` with every control character spelled out, as JSON would (``\\u001b``)."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
