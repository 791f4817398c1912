"""``pubsub journal``: reads the journal of durable topics, and changes it while no server uses it.

A command that only reads sees a snapshot, and does not disturb a server that uses the journal.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from pubsub.cli.journal_copy import add_copy, run_copy
from pubsub.core.clock import Clock
from pubsub.core.journal import JournalError, random_epoch
from pubsub.journals import DATABASE
from pubsub.journals.cleaning import TRIM_ROWS
from pubsub.journals.directory_lock import DirectoryLock
from pubsub.journals.operations import Append, Create, TopicHandle
from pubsub.journals.store import MAX_SEQ, EventRow, Store, TopicRow
from pubsub.journals.wal import lost_commits
from pubsub.journals.writer import Writer
from pubsub.protocol.errors import BadRequest
from pubsub.protocol.patterns import check_topic
from pubsub.protocol.requests import Message, Publish, TopicOptions, check_message

EXPORT_PAGE: Final = 1000
EXPORT_BYTES: Final = 1 << 24


class Line(Struct):
    """A line of an export. An import takes its message, ``ts`` and ``from``; each message gets a new ``seq``."""

    message: Message
    ts: str | None = None
    sender: str | UnsetType = field(name="from", default=UNSET)


def run_journal(flags: Sequence[str], data_dir: Callable[[], str]) -> int:
    """Run a command and return its exit status. ``data_dir`` is called if no flag names the directory."""
    chosen = make_parser().parse_args(flags)
    if chosen.command == "copy":
        return run_copy(chosen.source, chosen.target, chosen.topics)
    directory = Path(chosen.data_dir or data_dir())
    try:
        return int(COMMANDS[chosen.command](directory, chosen))
    except (JournalError, BadRequest) as error:
        print(f"pubsub journal: {error}", file=sys.stderr)
    except (sqlite3.Error, OSError) as error:
        print(f"pubsub journal: {directory}: {error}", file=sys.stderr)
    return 1


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("pubsub journal", description="Look at the journal of durable topics.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, meaning: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=meaning, description=meaning)
        command.add_argument("--data-dir", help="its directory (default: the setting DATA_DIR)")
        return command

    add("check", "is every message there, and readable")
    add("stats", "topics, messages, bytes").add_argument("--json", action="store_true", help="one object a line")
    add("export", "write a topic's messages to standard output, one event a line").add_argument("topic")
    importing = add("import", "publish the lines of an export from standard input; no server may use the journal")
    importing.add_argument("topic", help="made, if it is not there")
    importing.add_argument(
        "--history", type=whole_number, default=100_000, help="of a new topic (default: %(default)s)"
    )
    trimming = add("trim", "delete all but a topic's newest messages; no server may use the journal")
    trimming.add_argument("topic")
    trimming.add_argument("--keep", type=whole_number, required=True, metavar="N", help="messages")
    add_copy(commands)
    return parser


def whole_number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 0")
    return int(text)


def check(directory: Path, _: argparse.Namespace) -> int:
    """Look for missing and unreadable messages. The exit status is 0 if there are none."""
    store = Store(directory, read_only=True)
    problems = store.problems()
    if (lost := lost_commits(store.path)) > 1:
        problems.append(f"{store.path}-wal: the last {lost} commits can't be read")
    messages = 0
    with store.snapshot():
        topics = store.topics()
        for row in topics:
            found, wrong = check_topic_rows(store, row)
            messages += found
            problems += wrong
    for problem in problems:
        print(problem)
    print(f"{len(topics)} topics, {messages} messages, {len(problems)} problems")
    return 1 if problems else 0


def check_topic_rows(store: Store, row: TopicRow) -> tuple[int, list[str]]:
    """Return the number of a topic's events, and a line for each problem with them."""
    problems = []
    expected = row.first
    for event in all_events(store, row):
        if event.seq != expected:
            problems.append(f"{row.name}: expected #{expected}, got #{event.seq}")
        try:
            msgspec.json.decode(event.text.decode(), type=Line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            problems.append(f"{row.name}: #{event.seq} can't be read: {error}")
        expected = event.seq + 1
    if expected != row.seq + 1:
        problems.append(f"{row.name}: expected #{expected} to #{row.seq}, got none")
    return expected - row.first, problems


def stats(directory: Path, chosen: argparse.Namespace) -> int:
    store = Store(directory, read_only=True)
    rows = [
        {"topic": row.name, "messages": row.seq - row.first + 1, "bytes": row.bytes, "seq": row.seq, "epoch": row.epoch}
        | {"options": row.options}
        for row in store.topics()
    ]
    if chosen.json:
        print(*(msgspec.json.encode(row).decode() for row in rows), sep="\n", end="\n" if rows else "")
        return 0
    print(f"{'topic':30} {'messages':>10} {'bytes':>14} {'seq':>12}")
    for row in rows:
        print(f"{row['topic']:30} {row['messages']:>10} {row['bytes']:>14} {row['seq']:>12}")
    size = sum(path.stat().st_size for path in directory.glob(f"{DATABASE}*"))
    print(f"{len(rows)} topics, {size} bytes on disk")
    return 0


def export(directory: Path, chosen: argparse.Namespace) -> int:
    store = Store(directory, read_only=True)
    with store.snapshot():
        for event in all_events(store, find_topic(store, chosen.topic)):
            sys.stdout.buffer.write(event.text.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n")
    sys.stdout.flush()
    return 0


def import_(directory: Path, chosen: argparse.Namespace) -> int:
    check_topic(chosen.topic)
    writer = Writer(directory, now=time.time, monotonic=time.monotonic)
    try:
        topic = open_topic(writer, chosen.topic, chosen.history)
        count = 0
        for group in read_groups(topic, sys.stdin):
            result = writer.write(group)
            if result.failure:
                raise JournalError(f"{result.failure}; {count} messages were imported before")
            count += len(group)
    finally:
        writer.close()
    print(f"{count} messages imported to {topic.name}", file=sys.stderr)
    return 0


def open_topic(writer: Writer, name: str, history: int) -> TopicHandle:
    """Return the topic that is imported to; it is created if it does not exist."""
    for row in writer.open().topics():
        if row.name == name:
            return TopicHandle(row.name, row.epoch, row.options, row.number)
    topic = TopicHandle(name, random_epoch(), TopicOptions(history=history, durable=True))
    creation = Create(topic, lambda failure: None)
    result = writer.write([creation])
    if result.failure:
        raise JournalError(result.failure)
    topic.number = creation.number
    return topic


def read_groups(topic: TopicHandle, lines: TextIO) -> Iterator[list[Append]]:
    """Read lines as publishes, a page at a time. Raises BadRequest, which names the line."""
    group: list[Append] = []
    clock = Clock()
    for number, line in enumerate(lines, 1):
        try:
            read = msgspec.json.decode(line, type=Line)
            check_message(read.message)
        except (msgspec.MsgspecError, BadRequest, RecursionError) as error:
            raise BadRequest(f"line {number}: expected an event: {error}") from None
        message = Message(read.message.id, Raw(bytes(read.message.payload)))
        publish = Publish(topic=topic.name, message=message)
        group.append(Append(topic, [publish], None, read.ts or clock.timestamp(), read.sender))
        if len(group) == EXPORT_PAGE:
            yield group
            group = []
    if group:
        yield group


def trim(directory: Path, chosen: argparse.Namespace) -> int:
    find_topic(Store(directory, read_only=True), chosen.topic)
    lock = DirectoryLock(directory)
    store = Store(directory)
    row = find_topic(store, chosen.topic)
    end = max(row.first, row.seq - chosen.keep + 1)
    first, size = row.first, row.bytes
    while first < end:
        following = min(end, first + TRIM_ROWS)
        with store.transaction():
            size -= store.trim(row.number, first, following)
            store.update(row.number, seq=row.seq, first=following, size=size)
        first = following
    store.close()
    lock.release()
    print(f"{end - row.first} messages of {row.name} deleted, {row.seq - end + 1} kept", file=sys.stderr)
    return 0


def all_events(store: Store, row: TopicRow) -> Iterator[EventRow]:
    """Read all events of a topic, also those that have expired."""
    after = row.first - 1
    while page := store.read(row.number, after, MAX_SEQ, EXPORT_PAGE, EXPORT_BYTES, now=0):
        yield from page
        after = page[-1].seq


def find_topic(store: Store, name: str) -> TopicRow:
    for row in store.topics():
        if row.name == name:
            return row
    raise JournalError(f"there is no durable topic {name!r}")


COMMANDS: Final[dict[str, Callable[[Path, argparse.Namespace], int]]] = {
    "check": check,
    "stats": stats,
    "export": export,
    "import": import_,
    "trim": trim,
}
