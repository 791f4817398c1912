"""How log lines look: ``2025-08-25 10:00:00,123 [INFO] Topic created: orders (buffer size: 100)``, or JSON.

A log call gives its facts as one dict: ``log.info("Topic created: %(topic)s", {"topic": name})``. The text form
spells them into the sentence, the JSON form has them as fields too. Text from clients is always escaped.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import Any, Final

import msgspec

from pubsub.settings import LogFormat, LogLevel

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_NAMES: Final = {logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}
# Control characters of ASCII and Latin 1, and those that change a line's direction or end it in some viewers.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def set_up_logs(level: LogLevel, form: LogFormat) -> None:
    """Log to stderr, from ``level`` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=_LEVELS[level], handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def printable(text: str) -> str:
    """``text`` with every character escaped that could end the line, move the cursor or turn the reading direction."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def level_name(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno, record.levelname)


class TextFormatter(logging.Formatter):
    """Time stamp, level in brackets, sentence; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{self.formatTime(record)} [{level_name(record)}] {printable(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One object a line: ``ts``, ``level``, ``logger``, ``msg``, then the facts as fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "ts": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03}Z",
            "level": level_name(record).lower(),
            "logger": record.name,
            "msg": printable(record.getMessage()),
        }
        if isinstance(record.args, dict):
            fields |= {name: value for name, value in record.args.items() if name not in fields}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields, enc_hook=str).decode()

    converter = staticmethod(time.gmtime)
