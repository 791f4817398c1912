"""The repair of a missing part of a feed from the history of its topic, page by page. It must never send."""

from __future__ import annotations

from collections.abc import Sequence

from pubsub.client.errors import Internal, LimitExceeded, PubsubError
from pubsub.client.feed import Feed, Missing
from pubsub.client.replies import Event, HistoryReply, Reply

__all__ = ["mend"]


def mend(feed: Feed, part: Missing, answer: Reply | PubsubError, *, filtered: bool) -> bool:
    """Take the answer to a request for ``part``; return False if it has to be asked for again after a pause.

    ``filtered``: the subscription has a filter. Then events that a page does not have may be those that do not match.
    """
    if not feed.awaits(part):
        return True
    match answer:
        case Internal():
            return False
        case LimitExceeded() if part.limit > 1:  # the answer would have too many bytes
            part.limit = part.asked // 2
        case HistoryReply(epoch=feed.epoch):
            _take_page(feed, part, answer, filtered=filtered)
        case _:
            feed.tell_gap(part.after, part.until, part.count, "lost")
            part.after = part.until
    part.asked = 0
    feed.advance()
    return True


def _take_page(feed: Feed, part: Missing, page: HistoryReply, *, filtered: bool) -> None:
    found = [event for event in page.messages if part.after < event.seq <= part.until]
    is_last = len(page.messages) < part.asked or page.messages[-1].seq >= part.until
    until = part.until if is_last else page.messages[-1].seq
    if page.complete:
        for event in found:
            feed.hand_on(event)
    elif filtered:
        until = _hand_on_first(feed, part, found)
    else:
        _hand_on_with_gaps(feed, part.after, until, found)
    part.after = until
    part.count = None if filtered else part.until - until


def _hand_on_first(feed: Feed, part: Missing, found: Sequence[Event]) -> int:
    """Hand on the first event of a page with a filter that lacks something, and return its ``seq``.

    Nobody knows if what is missing would be before it or behind it. So a gap is told before it, and the rest is asked
    for again: mostly the oldest events are gone, and then nothing is missing behind it.
    """
    first = found[0].seq if found else part.until + 1
    if first > part.after + 1:
        feed.tell_gap(part.after, first - 1, None, "lost")
    for event in found[:1]:
        feed.hand_on(event)
    return min(first, part.until)


def _hand_on_with_gaps(feed: Feed, after: int, until: int, found: Sequence[Event]) -> None:
    for event in found:
        if event.seq > after + 1:
            feed.tell_gap(after, event.seq - 1, event.seq - 1 - after, "lost")
        feed.hand_on(event)
        after = event.seq
    if until > after:
        feed.tell_gap(after, until, until - after, "lost")
