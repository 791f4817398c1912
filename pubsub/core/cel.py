"""The engine of filters: expressions in CEL, compiled and evaluated by cel-expr-python. No I/O.

The engine is imported with the first filter (6 MiB, and 4 for its tables): a server without filters has none of it.
"""

from __future__ import annotations

import re
from typing import Any, Final

from pubsub.core.expressions import VARIABLES, Expression, Refused
from pubsub.core.views import MAX_BYTES, MAX_BYTES_COSTLY, Allowance, Envelope, Fields, fields_of
from pubsub.protocol.errors import BadRequest

MAX_TEXT: Final = 512
# The macros that make loops are left out: a map in a map takes 3 s and 1.3 GB with 314 characters.
_CONFIG: Final = """
name: "filters"
stdlib:
  include_macros: ["has"]
"""


class Program:
    """A compiled text. Programs are compared by identity."""

    def __init__(self, engine: Engine, evaluate: Any, expression: Expression) -> None:
        self.evaluate = evaluate
        self._activation = engine.activation
        self._variables = expression.variables - {"params"}
        self._fields: Fields | None = fields_of(expression.paths) if expression.paths else None
        self._limit = MAX_BYTES_COSTLY if expression.costly else MAX_BYTES // (1 + expression.joins)
        self._reads_payload = bool(expression.paths)
        # The key of an Activation that other filters may share; None if this one needs its own: for its params, or
        # because an Activation keeps all texts that + has made.
        shared = not expression.joins and "params" not in expression.variables
        self.shared = (frozenset(expression.paths), frozenset(self._variables), self._limit) if shared else None

    def activation(self, envelope: Envelope, params: dict[str, Any]) -> Any:
        """The variables for an evaluation. Raises Unreadable, and msgspec's errors."""
        seen: dict[str, Any] = {"params": params} if self.shared is None else {}
        if self._reads_payload:
            allowance, raw = Allowance(self._limit), envelope.message.payload
            seen["payload"] = self._fields.read(raw, allowance) if self._fields else allowance.decode(raw)
        for name in self._variables:
            if name == "topic":
                seen["topic"] = envelope.topic
            elif name == "id":
                seen["id"] = envelope.message.id
            elif isinstance(envelope.sender, str):
                seen["from"] = envelope.sender
        return self._activation(seen)


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
        self.activation = env.Activation
        self._booleans = ("BOOL", "DYN")
        self._check_params = self._compile("params == params")

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
            # A value that is not a boolean becomes false. The line break ends a comment.
            whole = self._compile(f"({text}\n) == true")
            whole.eval(self.activation({}))  # the engine plans the evaluation at the first one
        except Refused as refused:
            raise BadRequest(f"filter: {refused}") from None
        except RuntimeError as error:
            raise BadRequest(f"filter: {explained(str(error), text)}") from None
        return Program(self, whole.eval, expression)

    def accepts(self, params: dict[str, Any]) -> bool:
        """True if the engine can read all of ``params``."""
        return self._check_params.eval(self.activation({"params": params})).value() is True


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
