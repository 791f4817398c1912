"""The engine of filters: expressions in CEL, compiled and evaluated by cel-expr-python. No I/O.

The engine is imported with the first filter (6 MiB, and 4 for its tables): a server without filters has none of it.
"""

from __future__ import annotations

import re
from typing import Any, Final
from weakref import WeakValueDictionary

from pubsub.filters.expressions import VARIABLES, Expression, Refused
from pubsub.filters.views import View, limit_of
from pubsub.protocol.errors import BadRequest
from pubsub.protocol.mistakes import shown

MAX_TEXT: Final = 512
COSTLY: Final = 250  # evaluations of another filter take as long as one with `matches` may take: 1 ms
ENGINE_ERRORS: Final = (RuntimeError, ValueError, LookupError, TypeError)
# The macros that make loops are left out: a map in a map takes 3 s and 1.3 GB with 314 characters.
_CONFIG: Final = """
name: "filters"
stdlib:
  include_macros: ["has"]
"""


class Program:
    """A compiled text. ``view``: what it reads of an event. ``private``: its variables cannot be shared with others,
    because it has params, or because they keep each text that + makes. ``weight``: see Matcher.
    """

    __slots__ = ("__weakref__", "activate", "evaluate", "private", "view", "weight")

    def __init__(self, evaluate: Any, activate: Any, view: View, *, private: bool, weight: int) -> None:
        self.weight = weight
        self.evaluate = evaluate
        self.activate = activate
        self.view = view
        self.private = private


class Engine:
    """The environment of all expressions. Raises BadRequest where cel-expr-python is not installed."""

    def __init__(self) -> None:
        try:
            from cel_expr_python import cel  # type: ignore[import-untyped]
        except ImportError:
            raise BadRequest("filter: this server cannot filter (install pubsub[filters])") from None

        env = cel.NewEnv(
            config=cel.NewEnvConfigFromYaml(_CONFIG),
            variables=dict.fromkeys(VARIABLES, cel.Type.DYN) | dict.fromkeys(("id", "topic", "from"), cel.Type.STRING),
        )
        self._compile = env.compile
        self._activate = env.Activation
        self._booleans = ("BOOL", "DYN")
        self._search = self._compile("''.matches(params) in [true, false]")
        self._views: WeakValueDictionary[object, View] = WeakValueDictionary()

    def compile(self, text: str) -> Program:
        """Compile a text. Raises BadRequest that says where it is wrong."""
        if len(text) > MAX_TEXT:
            raise BadRequest(f"filter: expected at most {MAX_TEXT} characters, got {len(text)}")
        if not text.isascii() and not _is_unicode(text):
            raise BadRequest("filter: expected text without half of a surrogate pair")
        try:
            # Alone first: what is an expression by itself cannot end the parentheses around it.
            alone = self._compile(text)
            kind = alone.return_type().name()
            if kind not in self._booleans:
                raise BadRequest(f"filter: expected a condition, got a value of type {kind.lower()}")
            expression = Expression(alone.serialize())
            for pattern in expression.patterns:
                if not self._succeeds(self._search, pattern):
                    raise Refused(f"matches: not a regular expression: {shown(pattern)}")
            # A value that is not a boolean becomes false. The line break ends a comment.
            whole = self._compile(f"({text}\n) == true")
            whole.eval(self._activate({}))  # the engine plans the evaluation at the first one
        except Refused as refused:
            raise BadRequest(f"filter: {refused}") from None
        except ENGINE_ERRORS as error:
            raise BadRequest(f"filter: {explained(str(error), text)}") from None
        private = expression.joins > 0 or "params" in expression.variables
        weight = COSTLY if expression.costly else 1
        return Program(whole.eval, self._activate, self._view(expression), private=private, weight=weight)

    def _view(self, expression: Expression) -> View:
        key = (frozenset(expression.paths), frozenset(expression.variables - {"params"}), limit_of(expression))
        found = self._views.get(key)
        if found is None:
            found = self._views[key] = View(*key)
        return found

    def _succeeds(self, probe: Any, value: object) -> bool:
        return probe.eval(self._activate({"params": value})).value() is True


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def explained(message: str, text: str) -> str:
    """The first error of the engine's message, in one line: at what character of ``text``, and what is wrong."""
    if "recursion" in message:
        return "nested too deep: expected at most 32 levels"
    found = re.search(r"ERROR: <input>:(\d+):(\d+): (.*)", message)
    if found is None:
        return "not an expression that can be read"
    line, column, reason = int(found[1]), int(found[2]), found[3]
    before = text.split("\n")[: line - 1]
    reason = re.sub(r" \(in container ''\)| expecting \{.*", "", reason)
    reason = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in reason)
    return f"at character {sum(map(len, before)) + len(before) + column}: {reason[:150]}"
