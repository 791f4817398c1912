"""``pubsub token``: the flags that become claims."""

from __future__ import annotations

import jwt
import pytest

from pubsub.cli.token import read_filters, run_token
from tests.credentials import SECRET


def test_a_filter_is_a_claim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)
    flags = ["--sub", "alice", "--filter", "orders.*=payload.tenant == 'acme'", "--filter", "a=payload.b == 1"]
    assert run_token(flags) == 0
    claims = jwt.decode(capsys.readouterr().out.strip(), SECRET, ["HS256"])
    assert claims["pubsub"]["filters"] == {"orders.*": "payload.tenant == 'acme'", "a": "payload.b == 1"}


def test_without_a_filter_there_is_no_such_claim(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)
    assert run_token(["--sub", "alice"]) == 0
    assert "filters" not in jwt.decode(capsys.readouterr().out.strip(), SECRET, ["HS256"])["pubsub"]


@pytest.mark.parametrize("entry", ["a=payload.", "a=size(payload)", "a", "a..b=true", "=true"])
def test_a_filter_that_no_server_takes_is_not_signed(
    entry: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)
    assert run_token(["--sub", "alice", "--filter", entry]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pubsub token: ")


def test_a_pattern_has_one_filter() -> None:
    assert read_filters(["a=b == c"]) == {"a": "b == c"}
    with pytest.raises(ValueError, match="each pattern once"):
        read_filters(["a=true", "a=false"])
