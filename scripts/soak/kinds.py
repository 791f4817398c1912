"""The kinds of messages, and the filters that the clients of a test use: each in CEL and as a function of the kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

Json = dict[str, Any]
Predicate = Callable[[int], bool]

KINDS: Final = (0, 1, 2)  # of messages; the payload's field `kind`
NO_KIND: Final = 3  # a message without one matches no filter

# The fields of a request with each filter.
FILTERS: Final[tuple[Json, ...]] = (
    {},
    {"filter": "payload.kind > 0"},
    {"filter": "payload.kind == params.kind", "params": {"kind": 0}},
    {"filter": "payload.kind == params.kind", "params": {"kind": 2}},
)
# The filters of tokens.
REQUIRED: Final[dict[str, Predicate]] = {
    "payload.kind != 1": lambda kind: kind in (0, 2),
    "payload.kind < 2": lambda kind: kind < 2,
}

_PREDICATES: Final[dict[str, Predicate]] = {
    json.dumps(fields): predicate
    for fields, predicate in zip(
        FILTERS,
        (lambda kind: True, lambda kind: kind in (1, 2), lambda kind: kind == 0, lambda kind: kind == 2),
        strict=True,
    )
}


def kind_of(message: Json) -> int:
    """Return the kind of a message."""
    payload = message.get("payload")
    return payload.get("kind", NO_KIND) if isinstance(payload, dict) else NO_KIND


def predicate_of(request: Json) -> Predicate:
    """Return the filter of a request as a function of the kind."""
    fields = {name: request[name] for name in ("filter", "params") if name in request}
    return _PREDICATES[json.dumps(fields)]
