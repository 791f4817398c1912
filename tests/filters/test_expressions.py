"""Syntax trees: the fields that an expression reads, and the calls that filters must not make."""

from __future__ import annotations

import pytest
from cel_expr_python import cel  # type: ignore[import-untyped]

from pubsub.filters.expressions import VARIABLES, Expression, Path, Refused

ENV = cel.NewEnv(
    config=cel.NewEnvConfigFromYaml('name: "t"\nstdlib:\n  include_macros: ["has"]'),
    variables=dict.fromkeys(VARIABLES, cel.Type.DYN),
)


def read(text: str) -> Expression:
    return Expression(ENV.compile(text).serialize())


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("true", set()),
        ("topic == 'a'", set()),
        ("payload.a == 1", {("a",)}),
        (".payload.a == 1", {("a",)}),
        ("payload['a b'].c == 1", {("a b", "c")}),
        ("payload.a.b > 1 && payload.c", {("a", "b"), ("c",)}),
        ("has(payload.a.b)", {("a", "b")}),
        ("payload.a[0].b == 1", {("a",)}),
        ("payload[params.key] == 1", {()}),
        ("payload[topic + 'x'] == 1", {()}),
        ("'a' in payload", {()}),
        ("size(payload) == 1 || payload.a == 1", {(), ("a",)}),
        ("'x' in payload.tags", {("tags",)}),
        ("payload.a.contains('x')", {("a",)}),
        ("[payload.a, 1] == [1, payload.b]", {("a",), ("b",)}),
        ("{'x': payload.a, payload.b: 1}.x == 1", {("a",), ("b",)}),
        ("payload.a ? payload.b : -payload.c == 1", {("a",), ("b",), ("c",)}),
        ("type(payload.a) == int", {("a",)}),
        ("[payload][0].a == 1", {()}),
    ],
)
def test_the_fields_that_are_read(text: str, paths: set[Path]) -> None:
    assert read(text).paths == paths


def test_the_variables_that_are_used() -> None:
    found = read("id == topic && from == params.x && payload.id == 1")
    assert found.variables == {"id", "topic", "from", "params"}
    assert read("payload.topic == payload.params.id").variables == set()


@pytest.mark.parametrize(
    ("text", "costly", "joins"),
    [
        ("payload.a + payload.b + 1 == 3", 0, 2),
        ("payload.a.contains('x') || payload.b.startsWith(payload.c)", 0, 0),
        ("payload.a.contains(payload.b)", 1, 0),
        ("payload.a.contains(params.b) && payload.a.matches('^a')", 2, 0),
    ],
)
def test_calls_that_may_be_expensive_are_counted(text: str, costly: int, joins: int) -> None:
    found = read(text)
    assert (found.costly, found.joins) == (costly, joins)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("google.protobuf.Struct{} == payload", "google.protobuf.Struct: message types cannot be used"),
        ("payload == google.protobuf.Int64Value{value: 1}", "google.protobuf.Int64Value: message types cannot be used"),
        ("payload.a.matches(payload.b)", "matches: expected a literal"),
        ("payload.a.matches('a' + 'b')", "matches: expected a literal"),
        ("matches(payload.a, params.b)", "matches: expected a literal"),
        (r"payload.a.matches('\\pL')", r"matches: \p cannot be used"),
        ("payload.a.matches('(a{20}){20}')", "matches: expected at most 100 characters and repetitions of them in all, "
                                             "got 400"),
        ("payload.a.matches('a{60}') || payload.b.matches('b{60}')", "matches: expected at most 100 characters and "
                                                                     "repetitions of them in all, got 120"),
        ("payload.a.matches('a') || payload.b.matches('b') || payload.c.contains(payload.d)",
         "expected at most 2 calls of matches, or of contains without a literal"),
        ("(payload.a + payload.b).matches('a')",
         "matches, or contains without a literal, cannot be used together with +"),
        ("(payload.a + 'x').contains(payload.b)",
         "matches, or contains without a literal, cannot be used together with +"),
        ("timestamp(payload.t).getHours('Europe/Berlin') == 1",
         "getHours: expected no time zone, 'UTC', or an offset such as '+02:00'"),
        ("timestamp(payload.t).getDate(payload.zone) == 1",
         "getDate: expected no time zone, 'UTC', or an offset such as '+02:00'"),
    ],
)  # fmt: skip
def test_calls_without_a_bound_are_refused(text: str, told: str) -> None:
    with pytest.raises(Refused) as failure:
        read(text)
    assert str(failure.value) == told


@pytest.mark.parametrize("zone", ["", "'UTC'", "'+02:00'", "'-08:00'"])
def test_time_zones_that_need_no_file(zone: str) -> None:
    assert read(f"timestamp(payload.t).getHours({zone}) == 1").paths == {("t",)}
