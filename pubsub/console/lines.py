"""Messages and answers as lines of text, each of a kind. It must never print."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec
from msgspec import UNSET, Raw

from pubsub.client import Event, Gap, History, Notice, Presence, Published, Refused
from pubsub.client.requests import has_wildcard
from pubsub.client.rest import Redriven, TopicRule, Trace, TracedConnection
from pubsub.client.terminal import escape
from pubsub.console.commands import Help
from pubsub.console.items import count_of, describe_item
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


def line_of(item: Event[Raw] | Gap | Notice) -> Line:
    return Line(Kind.EVENT if isinstance(item, Event) else Kind.INFO, describe_item(item))


def describe_error(error: Exception) -> str:
    """Describe an error, with the code of the protocol, or over REST with the status of HTTP."""
    if isinstance(error, Refused):
        return f"error {error.status or error.code}: {error}"
    return f"error: {error}"


def describe_subscription(name: str, topics: list[str]) -> Line:
    """Describe a subscription, of a pattern with the topics that it covers."""
    covered = f": {_name_some(topics) or 'no topic yet'}" if has_wildcard(name) else ""
    return Line(Kind.OK, f"ok: subscribed to {name}{covered}")


def _name_some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def describe_published(published: Published) -> Line:
    before = "before, " if published.duplicate else ""
    duplicate = " (duplicate)" if published.duplicate else ""
    return Line(Kind.OK, f"ok: published to {published.topic} {before}as #{published.seq}{duplicate}")


def describe_history(topic: str, history: History[Raw]) -> list[Line]:
    kept = "" if history.complete else "; older ones are no longer kept"
    head = Line(Kind.OK, f"ok: {count_of(len(history.events), 'message')} in the history of {topic}{kept}")
    return [head, *map(line_of, history.events)]


def describe_presence(presence: Presence) -> Line:
    each = [f"{client.client_id}{_describe_connections(client.connections)}" for client in presence.clients]
    more = f" and {presence.count - len(each)} more" if presence.count > len(each) else ""
    named = f": {', '.join(each)}{more}" if each else ""
    return Line(Kind.OK, f"ok: {count_of(presence.count, 'client')} in {presence.topic}{named}")


def _describe_connections(number: int) -> str:
    return "" if number == 1 else f" ({count_of(number, 'connection')})"


def describe_ping(seconds: float) -> Line:
    return Line(Kind.OK, f"ok: pong after {seconds * 1000:.1f} ms")


def describe_topics(subscribers: dict[str, int], missing: list[str]) -> list[Line]:
    """Describe all topics, with the number of subscribers of each, and the servers that are ``missing`` in it."""
    each = (f"{name} ({count_of(number, 'subscriber')})" for name, number in subscribers.items())
    found = [Line(Kind.OK, f"topics: {', '.join(each) or 'none'}")]
    if missing:
        found.append(Line(Kind.OK, f"not counted, for they did not answer: servers {', '.join(missing)}"))
    return found


def describe_purge(topic: str, messages: int) -> Line:
    return Line(Kind.OK, f"ok: forgot {count_of(messages, 'message')} of {topic}")


def describe_redrive(topic: str, outcome: Redriven) -> Line:
    letters, messages = count_of(outcome.letters, "letter"), count_of(outcome.messages, "message")
    return Line(Kind.OK, f"ok: published {messages} of {letters} in {topic} again, skipped {outcome.skipped}")


def describe_rules(rules: list[TopicRule]) -> list[Line]:
    """Describe each rule in a line, in the order in which the server looks for the first that covers a name."""
    if not rules:
        return [Line(Kind.OK, "rules: none")]
    return [Line(Kind.OK, f"rule {rule.pattern}: {', '.join(_effects_of(rule)) or 'no effect'}") for rule in rules]


def describe_trace(trace: Trace) -> list[Line]:
    """Describe the fate of a message: a line for each connection of the client."""
    published = "" if trace.published_at is None else f", published at {trace.published_at}"
    connections = count_of(len(trace.connections), "connection")
    head = Line(Kind.OK, f"ok: {connections} of {trace.client_id} for #{trace.seq} in {trace.topic}{published}")
    fates = [Line(Kind.OK, _describe_fate(each)) for each in trace.connections]
    missing = () if trace.missing is UNSET else trace.missing
    return [head, *fates, *(Line(Kind.OK, f"unknown: server {server} did not answer") for server in missing)]


def _describe_fate(found: TracedConnection) -> str:
    subscribed = "" if found.subscribed_at is None else f", subscribed at {found.subscribed_at}"
    server = "" if found.server is UNSET else f", server {found.server}"
    return f"{found.outcome}: {found.detail} (connected at {found.connected_at}{subscribed}{server})"


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
