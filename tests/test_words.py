"""Plain words: no docstring opens with a question word, and no text in pubsub uses a private word."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import REPOSITORY

UNCLEAN: frozenset[str] = frozenset()
"""Folders and modules of pubsub that are not clean yet, by name. No new name may be added."""

QUESTION = re.compile(r"\W*(what|who|whose|whether|where|how|when|why)\b", re.IGNORECASE)
INSTEAD = {
    "goodbye": "close frame, or close reason",
    "farewell": "close frame, or close reason",
    "lobby": "idle connections",
    "visitor": "idle connection, or client",
    "change of hands": "upgrade, or takeover",
    "dear": "expensive",
}
PRIVATE = re.compile(rf"\b({'|'.join(INSTEAD)})s?\b", re.IGNORECASE)
TEXTS = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def modules_of(folder: str) -> list[str]:
    return sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / folder).rglob("*.py"))


def is_clean(module: str) -> bool:
    return Path(module).relative_to("pubsub").parts[0] not in UNCLEAN


PACKAGE_MODULES = list(filter(is_clean, modules_of("pubsub")))
MODULES = [*PACKAGE_MODULES, *modules_of("scripts"), *modules_of("tests")]


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each docstring of a module, a class or a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, text


def private_words(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the word, in lower case, of each private word in a comment or a string."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in TEXTS:
            text = " ".join(token.string.split())
            yield from ((token.start[0], found[1].lower()) for found in PRIVATE.finditer(text))


@pytest.mark.parametrize("module", MODULES)
def test_a_docstring_opens_with_a_noun_or_a_verb(module: str) -> None:
    openings = [(line, text) for line, text in docstrings((REPOSITORY / module).read_text()) if QUESTION.match(text)]
    told = [f"{module}:{line}: {text.splitlines()[0]}" for line, text in openings]
    assert not told, "\n".join(["name the thing, or begin with a verb: 'Return True if', not 'Whether'", *told])


@pytest.mark.parametrize("module", PACKAGE_MODULES)
def test_the_package_has_no_private_words(module: str) -> None:
    found = private_words((REPOSITORY / module).read_text())
    told = [f"{module}:{line}: {word!r}: write {INSTEAD[word]}" for line, word in found]
    assert not told, "\n".join(told)


def test_unclean_names_exist() -> None:
    assert [name for name in UNCLEAN if not (REPOSITORY / "pubsub" / name).exists()] == []


def test_the_checks_find_something() -> None:
    source = '"""Whether it is so."""\nx = f"{y} Goodbyes"  # a change of hands\nz = "it holds dearly"\n'
    assert [line for line, text in docstrings(source) if QUESTION.match(text)] == [1]
    assert list(private_words(source)) == [(2, "goodbye"), (2, "change of hands")]
