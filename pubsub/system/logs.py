"""Formats and writes log lines: ``2025-08-25 10:00:00.123 [INFO] Topic created: orders (buffer size: 100)``, or JSON.

A log call gives its facts as one dict: ``log.info("Topic created: %(topic)s", {"topic": name})``. The text form
has them in the sentence, the JSON form as fields too. Text from clients is always escaped.

A log that nobody reads, or whose disk is full, never makes the server wait or fail: lines are lost, and counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import stat
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

log = logging.getLogger(__name__)

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_NAMES: Final = {logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}
# Control characters of ASCII and Latin 1, and those that change a line's direction or end it in some viewers.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def hold_standard_streams() -> None:
    """Open /dev/null for those that are closed: a socket must not get one of their numbers, or libuv aborts."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def set_up_logs(level: str, form: str, *, worker: int = 0) -> None:
    """Log to stderr, from ``level`` on, which is one of LEVELS. ``worker``: the number that lines show; 0 is none."""
    # Without what no line shows (caller, thread, process) a line takes a third less time: logging's own advice.
    for name in ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, name, None)
    logging.setLogRecordFactory(Line)
    handler = LineHandler(own_descriptor(sys.stderr.fileno(), worker)) if sys.stderr else logging.NullHandler()
    handler.setFormatter(JsonFormatter(worker) if form == "json" else TextFormatter(worker))
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def own_descriptor(descriptor: int, worker: int) -> int:
    """The descriptor to which this process writes its lines.

    Several workers write to one pipe: it may be full again between the poll and the write, and the write would wait. So
    each opens the pipe for itself, without blocking, which the other processes do not notice (proc(5)).
    """
    if worker and stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        with contextlib.suppress(OSError):  # without /proc
            return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return descriptor


def set_level(level: str) -> None:
    """Log from ``level`` on, which is one of LEVELS."""
    logging.getLogger().setLevel(LEVELS[level])


class Line(logging.LogRecord):
    """The parts that a line shows. logging's own record has names of file, thread and process too: 0.9 µs of 4."""

    def __init__(
        self,
        name: str,
        level: int,
        pathname: str,
        lineno: int,
        msg: object,
        args: Any,
        exc_info: Any,
        *_: object,
    ) -> None:
        self.name = name
        self.levelno = level
        self.levelname = logging.getLevelName(level)
        self.msg = msg
        self.args = args[0] if len(args) == 1 and isinstance(args[0], dict) else args
        self.exc_info = exc_info
        self.created = time.time()
        self.msecs = self.created % 1 * 1000


class LineHandler(logging.Handler):
    """Writes lines to a file descriptor, and only as much as it takes at once.

    It polls before each write, which costs 0.5 µs of 10. The descriptor itself must stay blocking: the process that
    started the server shares it.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._cut = False  # the last line has begun, and not ended
        self._lost = 0
        self._poll: select.poll | None = None
        if hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        lost = self._lost
        if not self._write(self.format(record)):
            self._lost += 1
        elif lost:
            self._lost = 0
            log.warning("Log lines lost: %(count)d", {"count": lost})
            self._lost += lost if self._lost else 0  # not even that was written

    def _write(self, line: str) -> bool:
        """Return True if the whole line was written."""
        rest = f"{line}\n".encode(errors="backslashreplace")
        if self._cut:
            rest = b"\n" + rest
        while rest:
            try:
                if self._poll is not None and not self._poll.poll(0):
                    return False
                written = os.write(self._descriptor, rest[:_PIECE])
            except OSError:  # the disk is full, or the reader of a pipe is gone
                return False
            rest = rest[written:]
            self._cut = bool(rest)
        return True


# A pipe that is ready takes so many bytes at once (POSIX, PIPE_BUF).
_PIECE: Final = 4096


def printable(text: str) -> str:
    """``text`` with every character escaped that could end the line, move the cursor or turn the reading direction."""
    if text.isprintable():  # nearly every line: a tenth of the time
        return text
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escaped(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def level_name(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno, record.levelname)


class _Seconds:
    """Formats the whole seconds of a time stamp, once for all lines of a second."""

    def __init__(self, form: str, split: Callable[[float], time.struct_time]) -> None:
        self._form = form
        self._split = split
        self._second = -1
        self._text = ""

    def spell(self, moment: float) -> str:
        if int(moment) != self._second:
            self._second = int(moment)
            self._text = time.strftime(self._form, self._split(self._second))
        return self._text


class TextFormatter(logging.Formatter):
    """Local time, level in brackets, sentence; a traceback follows on lines of its own."""

    _seconds = _Seconds("%Y-%m-%d %H:%M:%S", time.localtime)

    def __init__(self, worker: int = 0) -> None:
        super().__init__()
        self._prefix = f"worker {worker}: " if worker else ""

    def format(self, record: logging.LogRecord) -> str:
        stamp = f"{self._seconds.spell(record.created)}.{int(record.msecs):03}"
        line = f"{stamp} [{level_name(record)}] {self._prefix}{printable(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One object a line: ``ts`` (UTC), ``level``, ``logger``, ``msg``, then the facts as fields."""

    _seconds = _Seconds("%Y-%m-%dT%H:%M:%S", time.gmtime)

    def __init__(self, worker: int = 0) -> None:
        super().__init__()
        self._worker: dict[str, Any] = {"worker": worker} if worker else {}

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "ts": f"{self._seconds.spell(record.created)}.{int(record.msecs):03}Z",
            "level": level_name(record).lower(),
            **self._worker,
            "logger": record.name,
            "msg": printable(record.getMessage()),
        }
        if isinstance(record.args, dict):
            fields |= {name: _escaped(value) for name, value in record.args.items() if name not in fields}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields, enc_hook=str).decode()
