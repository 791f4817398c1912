"""Messages and answers as lines of text, each of a kind. It must never print."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec
from msgspec import UNSET

from pubsub.client.replies import Ack, Error, Event, HistoryReply, Info, Pong, PresenceReply, Reply, Unknown
from pubsub.client.requests import has_wildcard
from pubsub.client.rest import TopicRule
from pubsub.client.terminal import escape
from pubsub.console.commands import Command, Help, Publish, Subscribe, Unsubscribe
from pubsub.console.syntax import SYNTAX

NAMED: Final = 5
"""The most topics of a pattern that an answer names."""
MAX_USAGE: Final = 46
"""The longest usage beside which the meaning still fits into a line."""


class Kind(Enum):
    """The kind of a line; the value is its colour as an ANSI SGR parameter."""

    EVENT = "36"
    OK = "32"
    ERROR = "31"
    INFO = "33"
    REMARK = "90"
    """News of the connection, from the console itself; the other kinds come from the server or answer commands."""


@dataclass(frozen=True, slots=True)
class Line:
    kind: Kind
    text: str


def paint(line: Line) -> str:
    return f"\x1b[{line.kind.value}m{escape(line.text)}\x1b[0m"


def describe(reply: Reply) -> list[Line]:
    """Describe a message that answers no request, or came too late; a heartbeat gives no line."""
    match reply:
        case Event():
            return [describe_event(reply)]
        case Error(error=problem):
            return [Line(Kind.ERROR, f"error {problem.code}: {problem.message}")]
        case Info():
            return _describe_info(reply)
        case HistoryReply():
            return _describe_history(reply)
        case PresenceReply():
            return [_describe_presence(reply)]
        case Ack():
            return [Line(Kind.OK, f"ok: {reply.topic}" if reply.topic else "ok")]
        case Pong():
            return [Line(Kind.OK, "ok: pong")]
        case Unknown(text=text):
            return [Line(Kind.INFO, f"unknown frame: {text}")]


def describe_event(event: Event) -> Line:
    number = f"#{event.seq} " if event.seq else ""
    sender = "" if event.sender is UNSET else f" from {event.sender}"
    return Line(Kind.EVENT, f"[{event.topic}] {number}{event.message.id}{sender}: {_compact(event.message.payload)}")


def _compact(payload: msgspec.Raw) -> str:
    """Return the payload as its publisher wrote it, without line breaks between its parts."""
    return bytes(msgspec.json.format(bytes(payload), indent=-1)).decode(errors="replace")


def _describe_info(info: Info) -> list[Line]:
    match info.msg:
        case "ping":
            return []
        case "topic_created" | "topic_deleted":
            text = f"{info.msg.replace('_', ' ')}: {info.topic}"
        case "unsubscribed":
            text = f"unsubscribed from {info.topic}: {info.reason}"
        case "joined" | "left":
            text = f"{info.msg} {info.topic}: {info.client_id}"
        case "dropped":
            text = f"dropped: {_count(info.count, 'message')} of {info.topic} (#{info.from_seq} to #{info.to_seq})"
        case "draining":
            text = f"draining: the server shuts down; reconnect after {info.reconnect_after_ms / 1000:.1f} s"
        case _:
            text = f"info: {info.msg} {info.topic}".rstrip()
    return [Line(Kind.INFO, text)]


def _describe_history(history: HistoryReply) -> list[Line]:
    kept = "" if history.complete else "; older ones are no longer kept"
    head = Line(Kind.OK, f"ok: {_count(len(history.messages), 'message')} in the history of {history.topic}{kept}")
    return [head, *map(describe_event, history.messages)]


def _describe_presence(reply: PresenceReply) -> Line:
    each = [f"{client.client_id}{_describe_connections(client.connections)}" for client in reply.clients]
    more = f" and {reply.count - len(each)} more" if reply.count > len(each) else ""
    named = f": {', '.join(each)}{more}" if each else ""
    return Line(Kind.OK, f"ok: {_count(reply.count, 'client')} in {reply.topic}{named}")


def _describe_connections(number: int) -> str:
    return "" if number == 1 else f" ({_count(number, 'connection')})"


def describe_answer(command: Command, reply: Reply, *, seconds: float) -> list[Line]:
    """Describe the answer to a command that took ``seconds``."""
    match command, reply:
        case Subscribe(topic=topic), Ack():
            return [Line(Kind.OK, f"ok: subscribed to {topic}{_describe_topics_of(topic, reply)}")]
        case Unsubscribe(topic=topic), Ack():
            return [Line(Kind.OK, f"ok: unsubscribed from {topic}")]
        case Publish(topic=topic), Ack():
            return [Line(Kind.OK, f"ok: published to {topic}{_describe_seq(reply)}")]
        case _, Pong():
            return [Line(Kind.OK, f"ok: pong after {seconds * 1000:.1f} ms")]
        case _:
            return describe(reply)


def _describe_topics_of(name: str, ack: Ack) -> str:
    """Describe the topics that a pattern covers; nothing for the name of a topic."""
    if not has_wildcard(name):
        return ""
    return f": {_name_some(sorted(ack.topics)) or 'no topic yet'}"


def _name_some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _describe_seq(ack: Ack) -> str:
    if not ack.seq:
        return ""
    return f" before, as #{ack.seq} (duplicate)" if ack.duplicate else f" as #{ack.seq}"


def describe_topics(subscribers: dict[str, int]) -> Line:
    """Describe all topics, with the number of subscribers of each."""
    each = (f"{name} ({_count(number, 'subscriber')})" for name, number in subscribers.items())
    return Line(Kind.OK, f"topics: {', '.join(each) or 'none'}")


def describe_purge(topic: str, messages: int) -> Line:
    return Line(Kind.OK, f"ok: forgot {_count(messages, 'message')} of {topic}")


def describe_rules(rules: list[TopicRule]) -> list[Line]:
    """Describe each rule in a line, in the order in which the server looks for the first that covers a name."""
    if not rules:
        return [Line(Kind.OK, "rules: none")]
    return [Line(Kind.OK, f"rule {rule.pattern}: {', '.join(_effects_of(rule)) or 'no effect'}") for rule in rules]


def _effects_of(rule: TopicRule) -> list[str]:
    created = ["created at first use"] if rule.create else []
    deleted = [] if rule.delete_idle_sec is UNSET else [f"deleted when idle for {rule.delete_idle_sec:g} s"]
    options = [f"{name}={msgspec.json.encode(value).decode()}" for name, value in rule.options.items()]
    return [*created, *deleted, *options]


def describe_help(command: Help) -> list[Line]:
    """Describe each command in a line; the meaning of a long one has a line of its own."""
    usages = {name: SYNTAX[name].usage(name) for name in command.commands}
    width = max((len(usage) for usage in usages.values() if len(usage) <= MAX_USAGE), default=0)
    lines: list[str] = []
    for name, usage in usages.items():
        if len(usage) > MAX_USAGE:
            lines.append(usage)
            usage = ""
        lines.append(f"{usage:{width}}  {SYNTAX[name].meaning}")
    return [Line(Kind.OK, text) for text in lines]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
