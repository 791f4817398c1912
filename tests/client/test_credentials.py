"""``pubsub client`` and ``pubsub bench`` with tokens, API keys and private certificates."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificate import write_certificate

from pubsub.__main__ import main
from tests.credentials import API_KEYS, SECRET, make_token
from tests.harness import PATIENCE, REPOSITORY, ForkedServer, ServerProcess, clean_environment

SESSION = "create a\nsub a\npub a 1\ntopics\ndelete a\n"
BENCH = ["bench", "--subscribers", "2", "--duration", "0.2"]
TOKEN = make_token(subscribe=[">"], publish=[">"])
ADMIN = make_token("root", publish=[">"], admin=True)


@pytest.fixture(scope="module")
def guarded() -> Iterator[ServerProcess]:
    with ForkedServer(environment={"JWT_SECRET": SECRET, "API_KEYS": API_KEYS}) as server:
        yield server


def run(*arguments: str, script: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pubsub", *arguments], input=script, cwd=REPOSITORY, capture_output=True, text=True,
        env=clean_environment() | environment, timeout=3 * PATIENCE,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        ([], {"PUBSUB_TOKEN": ADMIN}),
        ([], {"PUBSUB_TOKEN": TOKEN, "PUBSUB_API_KEY": "ops-key"}),
        (["--token", TOKEN, "--api-key", "ops-key"], {"PUBSUB_TOKEN": "another", "PUBSUB_API_KEY": "another"}),
    ],
    ids=["an admin's token", "token and key", "flags first"],
)
def test_who_has_credentials_is_served(guarded: ServerProcess, flags: list[str], environment: dict[str, str]) -> None:
    done = run("client", "--url", guarded.url, *flags, script=SESSION, **environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "ok: created a" in done.stdout
    done = run(*BENCH, "--url", guarded.url, *flags, **environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["published"] > 0


def test_who_has_none_is_told(guarded: ServerProcess) -> None:
    done = run("client", "--url", guarded.url, script="topics\nping\n")
    assert done.returncode == 1
    assert "error 401: expected an API key in X-API-Key, or a token in Authorization: Bearer" in done.stdout
    assert "the token is missing, invalid or expired (4401: token missing, invalid or expired)" in done.stderr
    done = run(*BENCH, "--url", guarded.url)
    assert done.returncode == 1
    assert "expected an API key in X-API-Key, or a token in Authorization: Bearer" in done.stderr


def test_a_token_that_the_server_does_not_take(guarded: ServerProcess) -> None:
    wrong = f"{TOKEN[:-6]}AAAAAA"
    for arguments in (["client"], [*BENCH, "--api-key", "ops-key"]):
        done = run(*arguments, "--url", guarded.url, script="ping\n", PUBSUB_TOKEN=wrong)
        assert done.returncode == 1
        assert "the server refused the connection with status 401: it wants another token" in done.stderr
        assert wrong not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--token", "swordfish"], "--token: expected a JWT, which is three parts with dots between them, with a sub"),
        (["--token", "sword.fish.x"], "--token: expected a JWT, which is three parts"),
        (["--token", "a.é.c"], "--token: expected a JWT, which is three parts"),
        (["--token", f"{TOKEN}é"], "--token: expected printable ASCII characters without blanks"),
        (["--api-key", "sword\r\nfish"], "--api-key: expected printable ASCII characters without blanks"),
        (["--ca", "/nowhere"], "--ca: got '/nowhere', No such file or directory"),
        (["--ca", __file__], f"--ca: got '{__file__}', "),
    ],
    ids=["a word", "no JSON", "not ASCII", "not all ASCII", "two lines", "no file", "no certificate"],
)
@pytest.mark.parametrize("command", ["client", "bench"])
def test_what_makes_no_sense(command: str, flags: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, *flags])
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert told in line
    assert "fish" not in line


def test_a_token_is_that_of_one_client(guarded: ServerProcess) -> None:
    done = run("client", "--url", guarded.url, "--client", "bob", PUBSUB_TOKEN=TOKEN)
    assert done.returncode == 2
    assert "--client: got 'bob', but the token is that of 'alice'" in done.stderr


def test_a_certificate_of_ones_own(tmp_path: Path) -> None:
    cert_file, key_file = write_certificate(tmp_path, "own")
    with ForkedServer(f"--tls-cert-file={cert_file}", f"--tls-key-file={key_file}") as server:
        url = server.url.replace("http:", "https:")
        for arguments in (["client"], BENCH, ["pub", "--create", "t", "1"], ["sub", "t", "--last-n=1", "--count=1"]):
            done = run(*arguments, "--url", url, "--ca", str(cert_file), script=SESSION)
            assert done.returncode == 0, done.stderr
            done = run(*arguments, "--url", url, script=SESSION, SSL_CERT_FILE=str(cert_file))
            assert done.returncode == 0, done.stderr
            done = run(*arguments, "--url", url, script=SESSION)
            assert done.returncode == (3 if arguments[0] in ("pub", "sub") else 1)
            assert f"cannot reach {url}: its certificate is not trusted: self-signed certificate (--ca" in done.stderr
