"""Plain words: no docstring opens with a question word, and no text in pubsub uses a private word."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator

from tests.harness import REPOSITORY

QUESTION = re.compile(r"\W*(what|who|whose|whether|where|how|when|why)\b", re.IGNORECASE)
OPENING = re.compile(rf"[\"']{QUESTION.pattern}", re.IGNORECASE)  # of any string: to parse all modules takes seconds
# Private words, as patterns, and the terms of the field to write instead.
INSTEAD = {
    "goodbyes?|farewells?": "close frame or close reason",
    "changes? of hands|chang(?:e|es|ed|ing) hands": "upgrade or takeover",
    "dear(?:er|est)?": "expensive",
    "lobby|lobbies|visitors?": "idle connection",
    "mak(?:e|es|ing) way|made way|sen[dt] away": "eviction, evict or disconnect",
    "com(?:e|es|ing) back": "reconnect",
    "whoever": "the client that, or every client that",
    "makes? no sense": "invalid",
}
PRIVATE = {re.compile(rf"\b(?:{words})\b", re.IGNORECASE): term for words, term in INSTEAD.items()}
ANY_PRIVATE = re.compile(rf"\b(?:{'|'.join(INSTEAD)})\b", re.IGNORECASE)
TEXTS = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def modules_of(folder: str) -> list[str]:
    return sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / folder).rglob("*.py"))


PACKAGE_MODULES = modules_of("pubsub")
MODULES = [*PACKAGE_MODULES, *modules_of("scripts"), *modules_of("tests")]
PLACES = ("*.md", "docs/**/*.md", "examples/*.md")
DOCUMENTS = [str(path.relative_to(REPOSITORY)) for place in PLACES for path in REPOSITORY.glob(place)]


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each docstring of a module, a class or a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, text


def texts_of(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each comment and each string."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in TEXTS:
            yield token.start[0], " ".join(token.string.split())


def private_words(texts: Iterable[tuple[int, str]]) -> list[str]:
    """The places with private words, and the words to write instead."""
    return [
        f"line {line}: {found[0]!r}: write {term}"
        for line, text in texts
        for pattern, term in PRIVATE.items()
        for found in pattern.finditer(text)
    ]


def questions(source: str) -> list[str]:
    """The docstrings that open with a question word."""
    if not OPENING.search(source):
        return []
    return [f"{line}: {text.splitlines()[0]}" for line, text in docstrings(source) if QUESTION.match(text)]


def private_texts(source: str) -> list[str]:
    """The comments and strings with private words."""
    return private_words(texts_of(source)) if ANY_PRIVATE.search(" ".join(source.split())) else []


def faults(files: Iterable[str], find: Callable[[str], list[str]]) -> str:
    """A line for each thing that ``find`` finds in the text of a file."""
    found = {file: find((REPOSITORY / file).read_text(encoding="utf-8")) for file in files}
    return "\n".join(f"{file}:{fault}" for file, faults in found.items() for fault in faults)


def test_a_docstring_opens_with_a_noun_or_a_verb() -> None:
    found = faults(MODULES, questions)
    assert not found, f"name the thing, or begin with a verb: 'Return True if', not 'Whether'\n{found}"


def test_the_package_has_no_private_words() -> None:
    found = faults(PACKAGE_MODULES, private_texts)
    assert not found, found


def test_documents_have_no_private_words() -> None:
    found = faults(DOCUMENTS, lambda text: private_words(enumerate(text.splitlines(), 1)))
    assert not found, found


def test_the_checks_find_something() -> None:
    source = '"""Whether it is so."""\nx = f"{y} Goodbyes"  # a change of hands\nz = "it holds dearly"\n'
    assert questions(source) == ["1: Whether it is so."]
    assert private_texts(source) == [
        "line 2: 'Goodbyes': write close frame or close reason",
        "line 2: 'change of hands': write upgrade or takeover",
    ]
