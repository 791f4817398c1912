"""Outcomes on their way from the owner to a worker. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pubsub.core.log import Assignment
from pubsub.journals.shared.engine import Outcome
from pubsub.journals.workers.wire import Count, Done, Each, Failed, Placed, WireOutcome
from pubsub.protocol.errors import (
    BadRequest,
    Conflict,
    Failure,
    Internal,
    LimitExceeded,
    NotAnswered,
    NotStored,
    TopicExists,
    TopicNotFound,
)

KINDS: Final[dict[str, type[Failure]]] = {
    kind.__name__: kind
    for kind in (BadRequest, Conflict, Internal, LimitExceeded, NotAnswered, NotStored, TopicExists, TopicNotFound)
}


def failed(failure: Failure) -> Failed:
    """A failure as it is sent. One of another kind becomes an Internal: a worker would not know it."""
    kind = type(failure).__name__
    if kind not in KINDS:
        return failed(Internal())
    return Failed(kind, str(failure), failure.seq if isinstance(failure, Conflict) else None)


def failure_of(sent: Failed) -> Failure:
    """The same failure again."""
    kind = KINDS.get(sent.kind, Internal)
    failure = kind.__new__(kind)
    Exception.__init__(failure, sent.text)
    if isinstance(failure, Conflict):
        failure.seq = sent.seq or 0
    return failure


def send_outcome(outcome: Outcome) -> WireOutcome:
    if outcome is None:
        return Done()
    if isinstance(outcome, int):
        return Count(outcome)
    if isinstance(outcome, Failure):
        return failed(outcome)
    return Each(_parts(outcome))


def _parts(outcomes: Sequence[Assignment | Failure]) -> list[Placed | Failed]:
    """The outcomes of publishes; those that follow each other in the topic are one part."""
    parts: list[Placed | Failed] = []
    first = count = 0  # of a part that has not ended
    for outcome in outcomes:
        plain = isinstance(outcome, Assignment) and not outcome.duplicate
        if plain and count and isinstance(outcome, Assignment) and outcome.seq == first + count:
            count += 1
            continue
        if count:
            parts.append(Placed(first, count, duplicate=False))
            count = 0
        if isinstance(outcome, Failure):
            parts.append(failed(outcome))
        elif outcome.duplicate:
            parts.append(Placed(outcome.seq, 1, duplicate=True))
        else:
            first, count = outcome.seq, 1
    if count:
        parts.append(Placed(first, count, duplicate=False))
    return parts


def take_outcome(sent: WireOutcome) -> Outcome:
    """The opposite of :func:`send_outcome`."""
    match sent:
        case Done():
            return None
        case Count():
            return sent.count
        case Failed():
            return failure_of(sent)
        case Each():
            return _outcomes(sent)


def _outcomes(each: Each) -> list[Assignment | Failure]:
    found: list[Assignment | Failure] = []
    for part in each.parts:
        if isinstance(part, Failed):
            found.append(failure_of(part))
        elif part.duplicate:
            found += [Assignment(part.first, duplicate=True)] * part.count
        else:
            found += [Assignment(seq, duplicate=False) for seq in range(part.first, part.first + part.count)]
    return found
