"""Spans of a catch-up: the subscriptions that want its events, where several lead a subscriber to one topic. No I/O.

A request may ask for fewer kept events than the other subscriptions of the subscriber let in, and a subscription that
comes later wants only later events. After the last span, the lane filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from pubsub.core.subscription import Subscription


class Span(Struct):
    """The subscriptions that want the events up to ``until``."""

    until: int
    wanted: list[Subscription]


def forget(spans: Sequence[Span], name: str) -> None:
    """Remove a subscription that has ended."""
    for span in spans:
        span.wanted = [each for each in span.wanted if each.name != name]


def extend(spans: list[Span], until: int, wanted: Sequence[Subscription]) -> None:
    """Let these subscriptions have the events after the last span, up to ``until``."""
    if not spans or spans[-1].until < until:
        spans.append(Span(until, list(wanted)))


def overlay(spans: Sequence[Span], after: int, start: int, subscription: Subscription) -> list[Span]:
    """Add a subscription that wants all events after ``start`` to spans that begin after ``after``."""
    bounds = sorted({after, start, *(span.until for span in spans)})
    found = list[Span]()
    for low, high in pairwise(bounds):
        wanted = next((span.wanted for span in spans if span.until >= high), []) if low >= after else []
        found.append(Span(high, [*wanted, subscription] if low >= start else list(wanted)))
    return found
