"""Events, gaps and notices as text for people, a line each. It must never print."""

import msgspec
from msgspec import Raw

from pubsub.client import Event, Gap, Notice


def describe_item(item: Event[Raw] | Gap | Notice) -> str:
    match item:
        case Event():
            return describe_event(item)
        case Gap():
            return describe_gap(item)
        case Notice():
            return describe_notice(item)


def describe_event(event: Event[Raw]) -> str:
    sender = "" if event.sender is None else f" from {event.sender}"
    return f"[{event.topic}] #{event.seq} {event.id}{sender}: {compact(event.payload).decode(errors='replace')}"


def compact(payload: Raw) -> bytes:
    """Return the payload as its publisher wrote it, but without line breaks and tabs between its parts."""
    text = bytes(payload)
    has_breaks = b"\n" in text or b"\r" in text or b"\t" in text
    return msgspec.json.format(text, indent=-1) if has_breaks else text


def describe_gap(gap: Gap) -> str:
    if gap.reason == "created_again":
        return f"gap: {gap.topic} was deleted and created again; messages may be missing"
    messages = "messages" if gap.count is None else count_of(gap.count, "message")
    bounds = "" if gap.from_seq is None or gap.to_seq is None else f" (#{gap.from_seq} to #{gap.to_seq})"
    return f"gap: {messages} of {gap.topic}{bounds}: {'dropped' if gap.reason == 'dropped' else 'no longer kept'}"


def describe_notice(notice: Notice) -> str:
    match notice.kind:
        case "joined" | "left":
            return f"{notice.kind} {notice.topic}: {notice.client_id}"
        case "unsubscribed":
            return f"unsubscribed from {notice.topic}: {notice.reason}"
        case "topic_created" | "topic_deleted":
            return f"{notice.kind.replace('_', ' ')}: {notice.topic}"


def count_of(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
