"""Sizes of regular expressions: no element that RE2 compiles is left out."""

from __future__ import annotations

import pytest

from pubsub.filters.regexes import Unfit, size_of


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        ("", 0),
        ("^abc$", 3),
        ("a|b*c+d?", 4),
        (r"\d\.\\", 3),
        (r"\x{10FFFF}{5}", 5),
        ("[a-z0-9]{8}-[a-f]{4}", 13),
        ("[]a{9}]{3}", 3),
        ("[^]]{3}", 3),
        ("[[:alpha:](]{4}", 4),
        (r"(\d{1,3}\.){3}\d{1,3}", 15),
        ("((a{9}){9}){9}", 729),
        ("(?:ab){2}(?P<n>cd){2}(?<m>e){2}(?i:f){2}", 12),
        ("(?i)a(?s-m)b", 2),
        ("a{2,}", 2),
        ("a{0}", 1),
        ("a{,5}", 5),
        ("a{9}{9}", 81),
        ("a{99999999999999999999}", 99_999),
        ("(a", 1),
        ("[a", 2),
    ],
)
def test_each_element_counts_as_often_as_it_is_repeated(pattern: str, size: int) -> None:
    assert size_of(pattern) == size


@pytest.mark.parametrize("pattern", [r"\pL", r"\PL", r"\p{Greek}", r"\Qa\E", "(?=a)", "(?!a)", "(?<=a)", "a)"])
def test_what_is_large_or_unknown_is_refused(pattern: str) -> None:
    with pytest.raises(Unfit, match="cannot be used"):
        size_of(pattern)
