"""``pubsub journal copy``: moves topics to another journal. The journal that they come from is not changed."""

from __future__ import annotations

import argparse
import asyncio
import re
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from pubsub.client.flags import pattern
from pubsub.core.journal import JournalError
from pubsub.journals.transfer.copying import Copied, copy_topics
from pubsub.journals.transfer.moved import Side
from pubsub.journals.transfer.sqlite import SqliteSide

SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+]+:")  # one letter alone is a drive of Windows
MEANING: Final = "copy topics to another journal, with seq, epoch, ids and times to live"
EPILOG: Final = """\
A journal is a directory (DATA_DIR) or a URL (JOURNAL_URL). No server may use the one that is read; servers may use the
one in Redis that is written. A topic is there when it is whole and was compared, and not before. After an interruption,
give the same command again: it leaves out what is there already and equal.

exit status: 0 all topics are there; 1 they are not, and the last line says why; 130 Ctrl-C"""


def add_copy(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``pubsub journal``."""
    parser = commands.add_parser("copy", help=MEANING, description=MEANING, epilog=EPILOG,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("source", metavar="FROM", help="the journal that is read")
    parser.add_argument("target", metavar="TO", help="the journal that is written")
    parser.add_argument("--topics", type=pattern, action="append", default=[], metavar="PATTERN",
                        help="only these, as orders or orders.>; may be given again (default: all)")  # fmt: skip


def run_copy(source: str, target: str, patterns: Sequence[str]) -> int:
    """Copy; return the exit status."""
    try:
        copied = asyncio.run(copy(source, target, patterns))
    except (JournalError, sqlite3.Error, OSError) as error:
        print(f"pubsub journal: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pubsub journal: interrupted: the topics above are there, and nothing of the others", file=sys.stderr)
        return 130
    there = f"; {copied.equal} topics were there already" if copied.equal else ""
    print(f"{copied.topics} topics, {copied.events} messages, {copied.ids} ids copied{there}")
    return 0


async def copy(source: str, target: str, patterns: Sequence[str]) -> Copied:
    async with AsyncExitStack() as stack:
        reading = await open_side(source, writes=False)
        stack.push_async_callback(reading.close)
        writing = await open_side(target, writes=True)
        stack.push_async_callback(writing.close)
        return await copy_topics(reading, writing, patterns, time.time(), tell)


async def open_side(text: str, *, writes: bool) -> Side:
    if not SCHEME.match(text):
        return SqliteSide(Path(text), writes=writes)
    try:
        from pubsub.journals.redis.transfer_spread import open_redis
    except ImportError as error:
        raise JournalError(f"a journal in Redis needs its packages: pip install 'pubsub[redis]' ({error})") from None
    return await open_redis(text, writes=writes)


def tell(line: str) -> None:
    print(line, flush=True)
