"""Settings about access: the error line for each wrong one; the commands that make keys and tokens; warnings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from certificate import write_certificate
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pubsub.__main__ import main
from pubsub.app import create_app
from pubsub.auth.api_keys import ApiKeys
from pubsub.auth.keys import ALGORITHMS, secret_keys
from pubsub.auth.tokens import Tokens
from pubsub.auth.trust import Trust
from pubsub.http.listener import bind
from pubsub.http.origins import is_loopback
from pubsub.lifecycle import warn_of_open_doors
from pubsub.settings_reader import find_mistakes, read_settings
from tests.auth.test_tokens import KEY_KINDS, pem
from tests.credentials import API_KEYS, SECRET
from tests.harness import REPOSITORY, clean_environment, make_settings, on_one_loop

HIDDEN = "got a value that is not shown"


@pytest.mark.parametrize(
    ("chosen", "line"),
    [
        ({"api_keys": "ops:admin"}, f"API_KEYS: {HIDDEN}, entry 1: expected name:role:key"),
        ({"api_keys": f"{API_KEYS},a:b:c"}, f"API_KEYS: {HIDDEN}, entry 4: expected a role of admin, publish, read"),
        ({"jwt_secret": "short"}, f"JWT_SECRET: {HIDDEN}, secret 1: expected at least 32 bytes, got 5"),
        (
            {"jwt_secret": SECRET, "jwt_algorithms": "HS512"},
            f"JWT_SECRET: {HIDDEN}, secret 1: good for HS256, but only HS512 allowed",
        ),
        (
            {"jwt_algorithms": "HS256,none"},
            f"JWT_ALGORITHMS: got 'HS256,none', expected some of {', '.join(ALGORITHMS)}",
        ),
        (
            {"jwt_public_key_file": "/nowhere"},
            "JWT_PUBLIC_KEY_FILE: got '/nowhere', [Errno 2] No such file or directory: '/nowhere'",
        ),
        (
            {"jwt_jwks_url": "file:///etc/passwd"},
            "JWT_JWKS_URL: got 'file:///etc/passwd', "
            "expected a URL that begins with https:// and has no name or password in it",
        ),
        (
            {"allowed_origins": "https://a.example, *"},
            "ALLOWED_ORIGINS: got 'https://a.example, *', "
            "expected scheme://host or scheme://host:port as browsers send them, not '*'",
        ),
        ({"tls_key_file": "key.pem"}, "TLS_KEY_FILE: got 'key.pem', expected TLS_CERT_FILE too"),
        (
            {"tls_cert_file": "/nowhere"},
            "TLS_CERT_FILE: got '/nowhere', [Errno 2] No such file or directory",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_named(chosen: dict[str, Any], line: str) -> None:
    assert find_mistakes(make_settings(**chosen)) == [line]


@pytest.mark.parametrize(
    "origins", ["https://a/", "a.example", "https://", "https://A.example", "https://a?b", "https://u@a", "https://*.a"]
)
def test_what_is_no_origin(origins: str) -> None:
    assert len(find_mistakes(make_settings(allowed_origins=origins))) == 1


def test_keys_that_are_good_for_nothing(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(pem(ec.generate_private_key(ec.SECP256K1())))
    assert find_mistakes(make_settings(jwt_public_key_file=str(file))) == [
        f"JWT_PUBLIC_KEY_FILE: got {str(file)!r}, {KEY_KINDS}"
    ]


def test_what_makes_sense(tmp_path: Path) -> None:
    cert_file, key_file = write_certificate(tmp_path, "a")
    keys = tmp_path / "keys.pem"
    keys.write_bytes(pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)))
    settings = make_settings(
        api_keys=API_KEYS, jwt_secret=f"{SECRET},{'x' * 64}", jwt_public_key_file=str(keys),
        jwt_jwks_url="https://login.example.com/jwks", jwt_algorithms="HS256,RS256",
        allowed_origins="https://a.example,http://b:8080,null,app://c", tls_cert_file=str(cert_file),
        tls_key_file=str(key_file),
    )  # fmt: skip
    assert find_mistakes(settings) == []


def test_every_mistake_is_told_at_the_start_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("API_KEYS", "ops:chief:swordfish")
    monkeypatch.setenv("JWT_SECRET", "hunter2")
    with pytest.raises(SystemExit) as ended:
        read_settings([])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert [line.partition(":")[0] for line in told.splitlines()] == ["API_KEYS", "JWT_SECRET"]
    assert "swordfish" not in told
    assert "hunter2" not in told


def test_a_key_and_its_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "--name", "ops", "--role", "admin"]) == 0
    key, entry = (line.partition(":")[2].strip() for line in capsys.readouterr().out.splitlines())
    identity = ApiKeys(entry).identify(key)
    assert (identity.client_id, identity.admin) == ("ops", True)
    assert key not in entry


def test_a_name_that_no_entry_can_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "--name", "a:b"]) == 2
    assert "--name" in capsys.readouterr().err


def test_a_token(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("JWT_SECRET", f"{SECRET},{'x' * 32}")
    flags = ["--sub", "alice", "--subscribe", "a.*", "--subscribe", "b", "--publish", "c", "--ttl", "60"]
    assert main(["token", *flags]) == 0
    identity = Tokens(Trust(keys=secret_keys(SECRET, ()))).verify(capsys.readouterr().out.strip())
    assert (identity.client_id, identity.subscribes, identity.publishes) == ("alice", "a.* b", "c")


def test_a_token_has_an_algorithm_that_the_server_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "x" * 64
    monkeypatch.setenv("JWT_SECRET", secret)
    monkeypatch.setenv("JWT_ALGORITHMS", "RS256,HS512")
    assert main(["token", "--sub", "alice"]) == 0
    tokens = Tokens(Trust(keys=secret_keys(secret, ("HS512",))))
    assert tokens.verify(capsys.readouterr().out.strip()).client_id == "alice"


@pytest.mark.parametrize(
    ("secret", "flags", "told"),
    [
        ("", ["--sub", "a"], "JWT_SECRET is not set"),
        (SECRET, ["--sub", "a", "--publish", "a*"], "names of topics, or patterns"),
        (SECRET, ["--sub", "a", "--ttl", "-1"], "expired"),
        (SECRET, ["--sub", "a", "--ttl", "inf"], "ttl: expected a number of seconds"),
        (SECRET, ["--sub", "a", "--ttl", "nan"], "ttl: expected a number of seconds"),
        (SECRET, ["--sub", "a\nb"], "sub: expected 1 to 255 printable characters"),
    ],
)
def test_a_token_that_would_not_do(
    secret: str, flags: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JWT_SECRET", secret)
    assert main(["token", *flags]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(("host", "loopback"), [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True),
                         ("::ffff:127.0.0.1", True), ("::1234", False), ("::ffff:192.0.2.1", False),
                         ("localhost", True), ("0.0.0.0", False), ("::", False), ("example.com", False)])  # fmt: skip
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("chosen", "warnings"),
    [
        ({}, ["subscribe and publish", "create and delete topics"]),
        ({"api_keys": API_KEYS}, ["subscribe and publish"]),
        ({"jwt_secret": SECRET}, ["create and delete topics"]),
        ({"jwt_secret": SECRET, "api_keys": API_KEYS}, []),
    ],
)
@on_one_loop
async def test_who_listens_for_everyone_is_warned(
    chosen: dict[str, Any], warnings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        sockets = await bind(host, 0)
        warn_of_open_doors(create_app(make_settings(**chosen)), sockets)
        for sock in sockets:
            sock.close()
    assert len(caplog.messages) == len(warnings)
    assert all(warning in line for warning, line in zip(warnings, caplog.messages, strict=True))


def test_without_tokens_nothing_of_them_is_loaded() -> None:
    """PyJWT and cryptography take 10 MiB, so they are imported only if tokens are used."""
    code = (
        "import sys, pubsub.app; print(not {'jwt', 'cryptography'} & {name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"
