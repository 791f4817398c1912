"""An example of each REST call, as a command for a shell."""

from __future__ import annotations

import json
import re
import shlex
from typing import get_args

from pubsub.documents.examples import EXAMPLES, VALUES
from pubsub.http.routes import EVENT_STREAM, Route, RouteRole


def curl(route: Route, query: str) -> str:
    """The command for a call with this query. ``$URL`` is the server, ``$KEY`` an API key."""
    path = re.sub(r"\{(\w+)\}", lambda found: str(VALUES[found[1]]), route.path)
    words = ["curl"]
    if route.media == EVENT_STREAM:
        words.append("--no-buffer")
    if route.method == "DELETE":
        words.append("--request DELETE")
    if route.role is not RouteRole.NONE:
        words.append('--header "X-API-Key: $KEY"')
    words.append(f'"$URL{path}{query and f"?{query}"}"')
    if route.request is not None:
        words.append(f"--data {shlex.quote(body_of(route))}")
    return " ".join(words)


def body_of(route: Route) -> str:
    """An example of the body; of a union the first type that has one."""
    kinds = get_args(route.request) or (route.request,)
    return next(json.dumps(EXAMPLES[kind.__name__]) for kind in kinds if getattr(kind, "__name__", "") in EXAMPLES)
