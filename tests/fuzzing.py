"""The fuzz targets: each is a function that takes any bytes and fails only if the server has a bug.

tests/test_fuzz.py runs them with the corpus and with inputs from hypothesis; `make fuzz` runs them for any time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from pubsub.auth.permissions import allows, make_rights
from pubsub.core.creation import check_options
from pubsub.core.topic_rules import TopicRules
from pubsub.protocol.answers import TopicRule
from pubsub.protocol.calls import decode_messages, make_publish
from pubsub.protocol.errors import BadRequest
from pubsub.protocol.frame_reader import Reader
from pubsub.protocol.frames import Binary, CloseFrame, ProtocolFault, Received
from pubsub.protocol.mistakes import request_id_of
from pubsub.protocol.patterns import check_topic, covers
from pubsub.protocol.replies import encode
from pubsub.protocol.requests import Publish, decode_request
from pubsub.rules_reader import MAX_MISTAKES, RulesError, parse_rules
from pubsub.settings import Settings
from pubsub.settings_reader import read_settings
from pubsub.websocket.upgrade import websocket_mask
from tests.simulation import MAX_MESSAGE_BYTES, Frames, Parts

CORPUS: Final = Path(__file__).parent / "corpus"
ID: Final = "550e8400-e29b-41d4-a716-446655440000"
SEGMENT: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-:~")


def fuzz_requests(given: bytes) -> None:
    """Decoding gives a request or a BadRequest; clients can parse an accepted message; request_id is always found."""
    text = given.decode(errors="replace")
    fuzz_bodies(text)
    mark = request_id_of(text)
    try:
        request = decode_request(text)
    except BadRequest as refusal:
        check_words(refusal)
        return
    assert request.request_id == mark
    if isinstance(request, Publish):
        check_published(request)


def fuzz_bodies(text: str) -> None:
    """The same for a message, or a list of them, in the body of a REST call."""
    try:
        found = decode_messages(text)
        published = [make_publish("t", each, lambda: ID) for each in (found if isinstance(found, list) else [found])]
    except BadRequest as refusal:
        check_words(refusal)
        return
    for each in published:
        check_published(each)


def check_published(request: Publish) -> None:
    whole = json.loads(encode({"message": request.message}))
    assert whole["message"]["id"] == request.message.id
    assert whole == json.loads(b'{"message":%b}' % encode(request.message))


def check_words(refusal: BadRequest) -> None:
    """Check that the text can be sent, and has one line."""
    words = str(refusal)
    assert json.loads(encode(words)) == words
    assert "\n" not in words
    assert len(words) < 1000


def fuzz_frames(given: bytes) -> None:
    """Bytes mean the same in one piece and in many, and the reader's buffer stays within its limit."""
    cut = given[:1]
    assert list(read_frames([given[1:]])) == list(read_frames(pieces(given[1:], 1 + (cut[0] if cut else 0))))


def pieces(whole: bytes, size: int) -> list[bytes]:
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def read_frames(parts: list[bytes]) -> Iterator[Received | str]:
    """Yield all results of a reader, up to a close frame or a fault; of a fault, the close reason."""
    reader = Reader(MAX_MESSAGE_BYTES, websocket_mask)
    try:
        for part in parts:
            reader.feed(part)
            while (received := reader.read()) is not None:
                assert not isinstance(received, str) or len(received.encode()) <= MAX_MESSAGE_BYTES
                assert not isinstance(received, Binary) or len(received.payload) <= MAX_MESSAGE_BYTES
                yield received
                if isinstance(received, CloseFrame):
                    return
    except ProtocolFault as fault:
        yield fault.close_reason.name


def fuzz_patterns(given: bytes) -> None:
    """The first line is a topic, the others are permissions: the result equals that of a plain implementation."""
    topic, *patterns = given.decode(errors="replace").split("\n")
    try:
        rights = make_rights(tuple(patterns))
    except ValueError:
        assert not all(is_pattern(each) for each in patterns) or len(set(patterns)) > 1000
        return
    assert all(is_pattern(each) for each in patterns)
    wanted = topic.split(".")
    try:
        allowed = allows(rights, topic)
    except BadRequest:
        assert not is_name(topic)
    else:
        assert is_name(topic)
        assert allowed == any(takes_in(each.split("."), wanted) for each in patterns)


def is_pattern(text: str) -> bool:
    *segments, last = text.split(".")
    return 0 < len(text) <= 255 and all(each == "*" or is_segment(each) for each in segments) and (
        last in ("*", ">") or is_segment(last)
    )  # fmt: skip


def is_segment(text: str) -> bool:
    return bool(text) and SEGMENT.issuperset(text)


def takes_in(pattern: list[str], topic: list[str]) -> bool:
    match pattern, topic:
        case [">"], [_, *_]:
            return True
        case [], []:
            return True
        case [first, *pattern_rest], [segment, *topic_rest] if first in ("*", segment):
            return takes_in(pattern_rest, topic_rest)
    return False


def fuzz_topics(given: bytes) -> None:
    """A name is allowed if and only if a plain implementation of the rule allows it."""
    name = given.decode(errors="replace")
    try:
        check_topic(name)
    except BadRequest as refusal:
        check_words(refusal)
        assert not is_name(name)
    else:
        assert is_name(name)


def is_name(text: str) -> bool:
    return 0 < len(text) <= 255 and all(map(is_segment, text.split(".")))


def fuzz_settings(given: bytes) -> None:
    """Lines of a flag and its value give settings, or exit status 2 and a line that names one of them."""
    arguments = []
    for number, line in enumerate(given.decode(errors="replace").split("\n")[:5]):
        name = FLAGS[(ord(line[0]) + number) % len(FLAGS)] if line else FLAGS[0]
        arguments.append(f"--{name}={line[1:]}")
    told = StringIO()
    try:
        with redirect_stderr(told):
            settings = read_settings(arguments)
    except SystemExit as end:
        check_end(end, told.getvalue())
    else:
        assert msgspec.json.decode(encode(settings), type=Settings) == settings


def check_end(end: SystemExit, told: str) -> None:
    assert end.code == 2, told
    assert re.search(r"^[A-Z_]+: |error", told, re.MULTILINE), told


FLAGS: Final = [name.replace("_", "-") for name in Settings.__dataclass_fields__ if "file" not in name]


def fuzz_rules(given: bytes) -> None:
    """A file with rules gives rules that the Broker can use, or a line for each mistake."""
    try:
        rules = parse_rules(given)
    except RulesError as error:
        check_mistakes(error.mistakes)
        return
    assert msgspec.json.decode(encode(rules), type=list[TopicRule]) == rules
    for rule in rules:
        name = rule.pattern.replace("*", "a").replace(">", "a.b")
        found = TopicRules(rules)
        assert covers(found.find(name).pattern, name)
        check_options(found.options_of(name, {}))


def check_mistakes(mistakes: list[str]) -> None:
    assert 0 < len(mistakes) <= MAX_MISTAKES + 1
    for mistake in mistakes:
        check_words(BadRequest(mistake))
        assert mistake.isprintable()


def fuzz_connection(given: bytes) -> None:
    """A whole connection takes any bytes: its answers are valid, and other clients are not affected."""
    parts = Parts(Random(0))
    parts.broker.create_topic("a")
    witness, attacker = parts.connect("witness"), parts.connect("attacker")
    assert witness.connection is not None
    assert attacker.connection is not None
    for part in pieces(given[1:], 1 + (given[0] if given else 0)):
        if attacker.reading and not attacker.closing:
            attacker.connection.data_received(part)
        parts.loop.end_tick()
    parts.loop.run_out()
    for message in Frames().feed(attacker.drain(1 << 30)):
        if isinstance(message, dict):
            assert message["type"] in ("ack", "event", "error", "pong", "info", "history")
            assert message["type"] != "error" or message["error"]["code"] != "INTERNAL"
    assert witness.get_write_buffer_size() == 0
    attacker.vanish()
    assert len(parts.services.connections) == 1


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "requests": fuzz_requests,
    "frames": fuzz_frames,
    "patterns": fuzz_patterns,
    "topics": fuzz_topics,
    "settings": fuzz_settings,
    "rules": fuzz_rules,
    "connection": fuzz_connection,
}


def corpus_of(target: str) -> list[Path]:
    """Return the inputs to try first: typical ones, and those that once failed."""
    return sorted((CORPUS / target).iterdir())
