"""The route that publishes the messages of dead letters again, each once, with its own id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Final

import msgspec
from aiohttp import web
from msgspec import Struct

from pubsub.core.broker import Broker
from pubsub.core.event import StoredEvent
from pubsub.http.app_keys import BROKER
from pubsub.http.messages import writable
from pubsub.http.rendering import read_text, render
from pubsub.http.waiting import answered
from pubsub.protocol.answers import DeadLetter, Redriven
from pubsub.protocol.calls import Redrive
from pubsub.protocol.errors import BadRequest, TopicNotFound
from pubsub.protocol.mistakes import explain
from pubsub.protocol.requests import Message, Publish, check_message

PAGE: Final = 50  # letters read at once; each has up to 64 KiB of messages

_decode_redrive = msgspec.json.Decoder(Redrive).decode


class _Kept(Struct, frozen=True, gc=False):
    payload: DeadLetter


class _Event(Struct, frozen=True, gc=False):
    """An event in a dead-letter topic."""

    message: _Kept


class _Lost(Struct, frozen=True, gc=False, rename={"sender": "from"}):
    """An event in a letter."""

    message: Message
    sender: str = ""


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_lost = msgspec.json.Decoder(_Lost).decode


@dataclass(slots=True)
class Account:
    """The outcome so far. ``seen``: the topic and the id of each message that was published again."""

    letters: int = 0
    messages: int = 0
    skipped: int = 0
    seen: set[tuple[str, str]] = field(default_factory=set)


async def redrive_letters(request: web.Request) -> web.Response:
    text = await read_text(request) or "{}"
    try:
        wanted = _decode_redrive(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        explain(error, text, ())
    account = await redrive(request.app[BROKER], request.match_info["name"], wanted)
    return render(Redriven(letters=account.letters, messages=account.messages, skipped=account.skipped))


async def redrive(broker: Broker, dead: str, wanted: Redrive) -> Account:
    """Publish the messages of letters again, in the order of the letters. Raises TopicNotFound, Internal."""
    account, after = Account(), wanted.after
    until = broker.topic(dead).seq  # letters that come meanwhile are not read
    while account.letters < wanted.limit:
        count = min(PAGE, wanted.limit - account.letters)
        kept = await answered(partial(broker.history_after, dead, after, count))
        for event in kept.events:
            if event.seq > until:
                return account
            after = event.seq
            if (letter := read_letter(event)) is not None:
                await redrive_letter(broker, letter, account)
        if len(kept.events) < count:
            return account
    return account


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter with its messages, by their ids. ``missing``: messages whose content is not in it."""

    topic: str
    lost: dict[str, _Lost]
    missing: int


def read_letter(event: StoredEvent) -> Letter | None:
    """The letter in an event; None if somebody published another thing there."""
    try:
        written = _decode_event(event.text).message.payload
        lost = [_decode_lost(each) for each in written.messages]
        for each in lost:
            check_message(each.message)
    except (msgspec.MsgspecError, RecursionError, BadRequest):
        return None
    return Letter(written.topic, {each.message.id: each for each in lost}, max(0, written.count - len(lost)))


async def redrive_letter(broker: Broker, letter: Letter, account: Account) -> None:
    account.letters += 1
    account.skipped += letter.missing
    unseen = [each for id_, each in letter.lost.items() if (letter.topic, id_) not in account.seen]
    for sender, publishes in by_sender(letter.topic, unseen):
        try:
            await writable(broker, letter.topic)
            await answered(partial(broker.publish_all, letter.topic, publishes, sender))
        except TopicNotFound:
            account.skipped += len(publishes)
            continue
        account.messages += len(publishes)
        account.seen.update((letter.topic, publish.message.id) for publish in publishes)


def by_sender(topic: str, lost: Sequence[_Lost]) -> Iterator[tuple[str, list[Publish]]]:
    """Requests that follow each other and have the same publisher."""
    for sender, group in groupby(lost, key=lambda each: each.sender):
        yield sender, [Publish(topic=topic, message=each.message) for each in group]
