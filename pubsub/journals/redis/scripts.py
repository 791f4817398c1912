"""The Lua scripts, which decide inside Redis. No I/O but to read them from the package."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from msgspec import Struct

from pubsub.journals.dedup import MAX_IDS
from pubsub.journals.redis.connection import command, pack_command

VERSION: Final = "1"  # of the keys; another one is refused
SESSION_SECONDS: Final = 3600  # the results of a server's last batches stay for so long after it is gone
CLEANED_AT_ONCE: Final = 10_000  # messages of a topic that one clean-up removes: about 1 ms of Redis

DIRECTORY: Final = Path(__file__).parent
FLAGS: Final = {"batch": "", "shrink": "allow-oom", "enter": "allow-oom", "beat": "allow-oom", "read": "no-writes",
                "missing": "no-writes", "transfer": ""}  # fmt: skip
BARRIER: Final = "#!lua flags=allow-oom\nreturn 1"  # it writes nothing, but Redis runs it only where it takes writes
FILES: Final = {"shrink": "batch"}  # the same decisions, for operations that free memory


class Script(Struct, frozen=True):
    """A script for one prefix. ``load``: the command that loads it."""

    load: bytes
    sha: bytes

    def run(self, *arguments: str | bytes | int) -> bytes:
        """The command that runs it."""
        return pack_command(("EVALSHA", self.sha, 0, *arguments))


class Scripts:
    """All scripts for one prefix."""

    def __init__(self, prefix: str) -> None:
        self.check = _script(f"#!lua flags=no-writes\nlocal PREFIX = '{prefix}:'\n{_read('check')}")
        self.batch = _make("batch", prefix)
        self.shrink = _make("shrink", prefix)
        self.enter = _make("enter", prefix)
        self.beat = _make("beat", prefix)
        self.read = _make("read", prefix)
        self.missing = _make("missing", prefix)
        self.barrier = _script(BARRIER)
        self.transfer = _make("transfer", prefix)  # for a copy alone, which loads it

    @property
    def all(self) -> tuple[Script, ...]:
        return self.check, self.batch, self.shrink, self.enter, self.beat, self.read, self.missing, self.barrier


def _make(name: str, prefix: str) -> Script:
    return _script(_text(name, prefix))


def _script(source: str) -> Script:
    text = source.encode()
    return Script(command("SCRIPT", "LOAD", text), hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def _text(name: str, prefix: str) -> str:
    constants = f"MAX_IDS, SESSION_SECONDS, CLEANED_AT_ONCE = {MAX_IDS}, {SESSION_SECONDS}, {CLEANED_AT_ONCE}"
    head = f"#!lua flags={FLAGS[name]}" if FLAGS[name] else "#!lua"
    body = "".join(_read(each) for each in ("common", FILES.get(name, name)))
    return f"{head}\nlocal PREFIX = '{prefix}:'\nlocal {constants}\n{body}"


def _read(name: str) -> str:
    return (DIRECTORY / f"{name}.lua").read_text()


def _needed() -> tuple[str, ...]:
    """The commands that a server needs once it has entered, most of them in scripts."""
    text = "".join(map(_read, ("common", "batch", "enter", "beat", "read", "missing")))
    return "HSCAN", "PING", "SUBSCRIBE", *sorted(set(re.findall(r"call\('([A-Z]+)'", text)))


NEEDED: Final = _needed()
