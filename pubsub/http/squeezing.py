"""Scripts and styles without what only people need: comments, indentation, and spaces around signs. Nothing is renamed.

It knows as much of the languages as the files of this package use, and a test compares each of them with its source.
"""

from __future__ import annotations

import re
from typing import Final

_TEXT: Final = r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'"""
_TOKEN: Final = re.compile(rf"[^\s{{}}\"'`/]+|(?P<space>(?:\s+|//[^\n]*|/\*.*?\*/)+)|{_TEXT}|.", re.DOTALL)
_REGEX: Final = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*")
_REST_OF_TEMPLATE: Final = re.compile(r"(?:[^`\\$]|\\.|\$(?!\{))*(?:`|\$\{)", re.DOTALL)
_BEFORE_REGEX: Final = re.compile(r"(?:^|[(,=:\[!&|?{};>+*%~^-]|\breturn)$")
_JOINED: Final = re.compile(r"[\w$]{2}|\+\+|--|/.|./", re.DOTALL)  # what must not stand together without a space
# A line goes on after the first ones and before the second ones: no semicolon is missing there.
_GOES_ON: Final = re.compile(r"[{(\[,;:?&|=>*].|.[})\],;.:?&|=*]", re.DOTALL)
_NEEDLESS: Final = {";}", ",}", ",)"}  # the first of both
_ONE_PARAMETER: Final = re.compile(r"(?<=[^\w$])\(([\w$]+)\)$")
_LINES: Final = re.compile(r"\s*\n\s*")
_BETWEEN_TAGS: Final = re.compile(r"(?<=[>}`])\n(?=<|\$\{|`)")  # htm leaves it out too

_QUOTES: Final = re.compile(r"""(?<==)"([\w-]+)"(?=[\s>])| (?=/>)""")  # of attributes, which htm needs not
_ADJACENT: Final = re.compile(r"^( *)const .*;\n(?:\1const .*;\n)+", re.MULTILINE)  # declarations of one line each

_STYLE: Final = re.compile(
    rf"(?P<text>{_TEXT})|/\*.*?\*/|\s*(?P<sign>[{{}};,>])\s*|(?P<colon>:)\s+|(?P<space>\s+)", re.DOTALL
)


def squeeze_style(source: str) -> str:
    def shorter(found: re.Match[str]) -> str:
        return found["text"] or found["sign"] or found["colon"] or (found["space"] and " ") or ""

    return _STYLE.sub(shorter, source).replace(";}", "}").strip()


class Squeezer:
    """One pass over a script. ``source`` is read at ``_place``; ``_braces`` tells for each open one if it is that of a
    template.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._place = 0
        self._braces: list[bool] = []
        self._parts: list[str] = []
        self._space = ""

    def squeeze(self) -> str:
        while self._place < len(self._source):
            sign = self._source[self._place]
            if sign == "`" or (sign == "}" and self._braces.pop()):
                self._take_template(sign)
            elif sign == "/" and self._regex_begins():
                self._take(_REGEX)
            else:
                self._take_token()
        return "".join(self._parts).strip()

    def _take_template(self, begin: str) -> None:
        found = _REST_OF_TEMPLATE.match(self._source, self._place + 1)
        assert found is not None, "a template has an end"
        self._place = found.end()
        if found[0].endswith("${"):
            self._braces.append(True)
        chunk = _BETWEEN_TAGS.sub("", _LINES.sub("\n", begin + found[0]))
        self._add(_QUOTES.sub(r"\1", chunk))

    def _regex_begins(self) -> bool:
        begins = self._source[self._place + 1] not in "/*"
        return begins and _BEFORE_REGEX.search(self._parts[-1] if self._parts else "") is not None

    def _take(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._source, self._place)
        assert found is not None, self._source[self._place : self._place + 40]
        self._place = found.end()
        self._add(found[0])

    def _take_token(self) -> None:
        found = _TOKEN.match(self._source, self._place)
        assert found is not None, "any character is a token"
        self._place = found.end()
        if found["space"]:
            self._space = "\n" if "\n" in found[0] else " "
            return
        if found[0] == "{":
            self._braces.append(False)
        self._add(found[0])

    def _add(self, token: str) -> None:
        if self._space and self._parts:
            around = self._parts[-1][-1] + token[0]
            if not _GOES_ON.fullmatch(around) if self._space == "\n" else _JOINED.fullmatch(around):
                self._parts.append(self._space)
        self._space = ""
        if token == "=>" and (found := _ONE_PARAMETER.search("".join(self._parts[-2:]))):
            self._parts[-2:] = [found.string[: found.start()], found[1]]
        if self._parts and self._parts[-1][-1] + token[0] in _NEEDLESS:
            self._parts[-1] = self._parts[-1][:-1]
        self._parts.append(token)


def squeeze_script(source: str) -> str:
    return Squeezer(_ADJACENT.sub(_join_declarations, source)).squeeze()


def _join_declarations(found: re.Match[str]) -> str:
    return found[0].replace(f";\n{found[1]}const ", f",\n{found[1]}")
