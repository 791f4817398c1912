"""Tokens: each kind of wrong token with its exact error, and the trusted keys."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pubsub.auth.identity import FilteredIdentity, Identity
from pubsub.auth.keys import ALGORITHMS, TrustedKey, jwks_keys, pem_keys, secret_keys
from pubsub.auth.tokens import MAX_TOKEN_BYTES, Tokens, sign
from pubsub.auth.trust import Proof, Trust
from pubsub.filters.filters import Filters
from pubsub.protocol.errors import Unauthorized
from tests.credentials import SECRET, claims, make_token, part

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256, P384, P521 = (ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()))
ED25519 = ed25519.Ed25519PrivateKey.generate()
SIGNERS: dict[str, Any] = {
    "RS256": RSA,
    "RS384": RSA,
    "RS512": RSA,
    "ES256": P256,
    "ES384": P384,
    "ES512": P521,
    "EdDSA": ED25519,
}


def pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    algorithm = next(name for name, signer in SIGNERS.items() if signer is key)
    described = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key())
    return {**json.loads(described), **more}


def by_secret(text: str = SECRET, **chosen: Any) -> Tokens:
    trust = {name: chosen.pop(name) for name in ("audience", "issuer") if name in chosen}
    return Tokens(Trust(keys=secret_keys(text, ()), **trust), **chosen)


def refusal(tokens: Tokens, token: str) -> str:
    with pytest.raises(Unauthorized) as failure:
        tokens.verify(token)
    assert failure.value.status == 401
    return str(failure.value)


def signed_by_hand(header: dict[str, Any], payload: object, key: bytes = SECRET.encode()) -> str:
    """Sign a header and a payload that PyJWT refuses to sign."""
    text = f"{part(header)}.{part(payload)}"
    return f"{text}.{part(hmac.digest(key, text.encode(), hashlib.sha256))}"


HS256 = {"alg": "HS256", "typ": "JWT"}
UNREADABLE = "token: not a JWT that can be read"
FORGED = "token: the signature is not that of a key that is trusted here"
WRONG_ALGORITHM = "token: alg: not an algorithm of a key that is trusted here"
NO_NAME = "token: sub: expected 1 to 255 printable characters"
NOW = int(time.time())

BAD_TOKENS = {
    "empty": ("", UNREADABLE),
    "a word": ("token", UNREADABLE),
    "two parts": (make_token().rpartition(".")[0], UNREADABLE),
    "four parts": (make_token() + ".x", UNREADABLE),
    "not base64": ("!.!.!", UNREADABLE),
    "no JSON": (f"{part(b'{')}.{part(b'{')}.x", UNREADABLE),
    "header no object": (f"{part([1])}.{part({})}.{part(b'x')}", UNREADABLE),
    "header nested without end": (f"{part(b'[' * 4000)}.{part({})}.{part(b'x')}", UNREADABLE),
    "claims nested without end": (signed_by_hand(HS256, b"[" * 4000), UNREADABLE),
    "claims no object": (signed_by_hand(HS256, [1]), UNREADABLE),
    "claims not UTF-8": (signed_by_hand(HS256, b'{"sub":"\xff"}'), UNREADABLE),
    "not ASCII": (make_token() + "é", UNREADABLE),
    "lone surrogate": (make_token() + "\ud800", UNREADABLE),
    "oversized": ("x" * 20_000, f"token: expected at most {MAX_TOKEN_BYTES} bytes"),
    "oversized though signed": (make_token(filler="x" * 20_000), f"token: expected at most {MAX_TOKEN_BYTES} bytes"),
    "unsigned": (f"{part({'alg': 'none'})}.{part(claims())}.", WRONG_ALGORITHM),
    "none in capitals": (f"{part({'alg': 'NONE'})}.{part(claims())}.", WRONG_ALGORITHM),
    "no algorithm": (signed_by_hand({"typ": "JWT"}, claims()), WRONG_ALGORITHM),
    "algorithm is a list": (signed_by_hand({"alg": ["HS256"]}, claims()), WRONG_ALGORITHM),
    "kid is a number": (signed_by_hand({**HS256, "kid": 7}, claims()), UNREADABLE),
    "critical and unknown": (signed_by_hand({**HS256, "crit": ["x"], "x": 1}, claims()), UNREADABLE),
    "detached payload": (signed_by_hand({**HS256, "b64": False, "crit": ["b64"]}, claims()), UNREADABLE),
    "signature cut off": (make_token().rpartition(".")[0] + ".", FORGED),
    "signature of another": (make_token().rpartition(".")[0] + "." + part(b"x" * 32), FORGED),
    "foreign secret": (jwt.encode(claims(), "x" * 32, "HS256"), FORGED),
    "claims changed": (".".join((part(HS256), part(claims("root")), make_token().rpartition(".")[2])), FORGED),
    "algorithm beyond the secret": (jwt.encode(claims(), SECRET.ljust(64, "x"), "HS512"), WRONG_ALGORITHM),
    "signed by RSA": (jwt.encode(claims(), RSA, "RS256"), WRONG_ALGORITHM),
    "no exp": (make_token(exp=None), "token: exp: required, but missing"),
    "exp null": (signed_by_hand(HS256, {"sub": "a", "exp": None}), "token: exp: required, but missing"),
    "exp a word": (make_token(exp="soon"), UNREADABLE),
    "exp without end": (signed_by_hand(HS256, b'{"sub":"a","exp":1e999}'), UNREADABLE),
    "exp no number": (signed_by_hand(HS256, b'{"sub":"a","exp":NaN}'), UNREADABLE),
    "exp of 400 digits": (signed_by_hand(HS256, {"sub": "a", "exp": 10**400}), UNREADABLE),
    "expired": (make_token(exp=NOW - 1), "token: expired"),
    "expired long ago": (make_token(exp=0), "token: expired"),
    "early": (make_token(nbf=NOW + 3000), "token: not valid yet"),
    "from the future": (make_token(iat=NOW + 3000), "token: not valid yet"),
    "no sub": (signed_by_hand(HS256, {"exp": NOW + 3000}), "token: sub: required, but missing"),
    "sub empty": (make_token(sub=""), NO_NAME),
    "sub too long": (make_token(sub="x" * 256), NO_NAME),
    "sub two lines": (make_token(sub="alice\r\nX-Evil: 1"), NO_NAME),
    "sub a lone surrogate": (signed_by_hand(HS256, b'{"sub":"\\ud800","exp":1e10}'), NO_NAME),
    "sub a number": (signed_by_hand(HS256, {"sub": 7, "exp": NOW + 3000}), UNREADABLE),
    "for someone else": (make_token(aud="them"), "token: aud: meant for someone else"),
    "rights no object": (make_token(pubsub=[]), "token: pubsub: Expected `object`, got `array`"),
    "a right no list": (make_token(subscribe="a"), "token: pubsub: Expected `array`, got `str` - at `$.subscribe`"),
    "admin no boolean": (make_token(admin="yes"), "token: pubsub: Expected `bool`, got `str` - at `$.admin`"),
    "a right no pattern": (
        make_token(publish=["a.>.b"]),
        "token: pubsub: expected names of topics, or patterns: * for one segment, > at the end for one or more",
    ),
    "filters no object": (make_token(filters=["a"]), "token: pubsub: Expected `object`, got `array` - at `$.filters`"),
    "a filter no text": (
        make_token(filters={"a": 1}), "token: pubsub: Expected `str`, got `int` - at `$.filters[...]`"
    ),
    "a filter of no pattern": (
        make_token(filters={"a.>.b": "true"}),
        "token: pubsub: expected names of topics, or patterns: * for one segment, > at the end for one or more",
    ),
    "too many filters": (
        make_token(filters={f"{n}": "" for n in range(101)}), "token: pubsub: expected at most 100 filters"
    ),
}  # fmt: skip


def test_a_filter_where_none_is_accepted() -> None:
    told = "token: pubsub.filters: entry 1: filter: none is accepted here"
    assert refusal(by_secret(), make_token(filters={"a": "true"})) == told


@pytest.mark.parametrize(("token", "told"), BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_row_21_a_bad_token(token: str, told: str) -> None:
    assert refusal(by_secret(), token) == told


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    refusal(by_secret(), text)


@given(st.binary(), st.binary(), st.binary())
def test_any_three_parts_are_refused(header: bytes, payload: bytes, signature: bytes) -> None:
    refusal(by_secret(), ".".join(map(part, (header, payload, signature))))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.just(10**400) | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "pubsub", "subscribe", "admin", "filters"]),
                inner,
            )
        ),
    )
)
def test_signed_nonsense_is_an_identity_or_refused(payload: object) -> None:
    with contextlib.suppress(Unauthorized):
        assert isinstance(by_secret().verify(signed_by_hand(HS256, payload)), Identity)


def test_a_good_token() -> None:
    tokens = by_secret(now=lambda: NOW, monotonic=lambda: 5.0)
    identity = tokens.verify(make_token(subscribe=["b.*", "a"], publish=["c"], exp=NOW + 36_000))
    assert identity.proof == Proof(tokens.trust.keys[0], "HS256", None, ())
    assert replace(identity, proof=None) == Identity(
        client_id="alice", subscribes="a b.*", publishes="c", expires=36_005
    )


def test_an_admin_reads_everything_and_publishes_what_is_said() -> None:
    identity = by_secret().verify(make_token(admin=True, publish=["c"]))
    assert (identity.admin, identity.sees_all, identity.subscribes, identity.publishes) == (True, True, ">", "c")


def test_no_rights_are_none() -> None:
    identity = by_secret().verify(make_token(pubsub=None))
    assert (identity.subscribes, identity.publishes, identity.admin) == ("", "", False)


FILTERS = Filters()


def test_filters() -> None:
    tokens = by_secret(check_filter=FILTERS.compile, now=lambda: NOW, monotonic=lambda: 5.0)
    filters = {"orders.*": "payload.tenant == 'acme'", "orders.>": "payload.level < 3", "a": "payload.tenant == 'acme'"}
    identity = tokens.verify(make_token(subscribe=[">"], filters=filters, exp=NOW + 36_000))
    assert replace(identity, proof=None) == FilteredIdentity(
        client_id="alice", subscribes=">", expires=36_005, filters=tuple(sorted(filters.items()))
    )
    assert identity.filters_for("orders.eu") == ("payload.tenant == 'acme'", "payload.level < 3")
    assert identity.filters_for("orders.eu.de") == ("payload.level < 3",)
    assert identity.filters_for("a") == ("payload.tenant == 'acme'",)
    assert identity.filters_for("b") == ()


def test_filters_hold_for_an_admin_too() -> None:
    identity = by_secret(check_filter=FILTERS.compile).verify(make_token(admin=True, filters={">": "payload.a == 1"}))
    assert (identity.subscribes, identity.filters_for("orders")) == (">", ("payload.a == 1",))


def test_tokens_with_the_same_filters_share_them() -> None:
    tokens = by_secret(check_filter=FILTERS.compile)
    one, two = (tokens.verify(make_token(sub, filters={"a": "payload.a == 1"})) for sub in ("alice", "bob"))
    assert isinstance(one, FilteredIdentity)
    assert isinstance(two, FilteredIdentity)
    assert one.filters is two.filters


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        ({"a": "true", "b": "payload."},
         "token: pubsub.filters: entry 2: filter: at character 9: Syntax error: no viable alternative at input '.'"),
        ({"a": "size(payload)"},
         "token: pubsub.filters: entry 1: filter: expected a condition, got a value of type int"),
        ({"a": ""}, "token: pubsub.filters: entry 1: filter: at character 1: Syntax error: mismatched input '<EOF>'"),
        ({"a": "x" * 513}, "token: pubsub.filters: entry 1: filter: expected at most 512 characters, got 513"),
    ],
)  # fmt: skip
def test_a_filter_that_does_not_compile_makes_the_token_invalid(filters: dict[str, str], told: str) -> None:
    assert refusal(by_secret(check_filter=FILTERS.compile), make_token(filters=filters)) == told


def test_a_token_with_filters_is_invalid_where_the_engine_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    tokens = by_secret(check_filter=Filters().compile)
    assert tokens.verify(make_token(filters={})).filters_for("a") == ()
    assert refusal(tokens, make_token(filters={"a": "true"})) == (
        "token: pubsub.filters: entry 1: filter: this server cannot filter (install pubsub[filters])"
    )


def test_another_clock_may_be_ahead_a_little() -> None:
    by_secret().verify(make_token(nbf=time.time() + 3, iat=time.time() + 3))


def test_audience_and_issuer() -> None:
    tokens = by_secret(audience=["us", "we"], issuer=["me"])
    assert tokens.verify(make_token(aud=["them", "we"], iss="me")).client_id == "alice"
    assert refusal(tokens, make_token(aud="them", iss="me")) == "token: aud: meant for someone else"
    assert refusal(tokens, make_token(iss="me")) == "token: aud: required, but missing"
    assert refusal(tokens, make_token(aud="us", iss="you")) == "token: iss: not an issuer that is trusted here"
    assert refusal(tokens, make_token(aud="us")) == "token: iss: required, but missing"


def test_secrets_are_rotated() -> None:
    old, new = "o" * 32, "n" * 64
    tokens = by_secret(f"{old}, {new}")
    for secret, algorithm in ((old, "HS256"), (new, "HS256"), (new, "HS384"), (new, "HS512")):
        assert tokens.verify(jwt.encode(claims(), secret, algorithm)).client_id == "alice"


@pytest.mark.parametrize(
    ("text", "allowed", "told"),
    [
        ("x" * 31, (), "secret 1: expected at least 32 bytes, got 31"),
        (f"{'x' * 32},short", (), "secret 2: expected at least 32 bytes, got 5"),
        ("x" * 32, ("RS256",), "secret 1: good for HS256, but only RS256 allowed"),
    ],
)
def test_secrets_that_make_no_sense(text: str, allowed: tuple[str, ...], told: str) -> None:
    with pytest.raises(ValueError, match=r".") as failure:
        secret_keys(text, allowed)
    assert str(failure.value) == told


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_public_keys(algorithm: str) -> None:
    signer = SIGNERS[algorithm]
    token = jwt.encode(claims(), signer, algorithm, headers={"kid": "mine"})
    assert Tokens(Trust(keys=pem_keys(pem(RSA) + pem(signer), ()))).verify(token).client_id == "alice"
    assert Tokens(Trust(keys=jwks_keys(json.dumps({"keys": [jwk(signer, kid="mine")]}).encode(), ()))).verify(token)


def test_row_21_a_public_key_is_no_secret() -> None:
    """A known attack signs a token by HMAC with the public key, which everybody knows."""
    for keys in (pem_keys(pem(RSA), ()), pem_keys(pem(RSA), ()) + secret_keys(SECRET, ())):
        told = refusal(Tokens(Trust(keys=keys)), signed_by_hand(HS256, claims(), pem(RSA)))
        assert told in (WRONG_ALGORITHM, FORGED)


def test_an_algorithm_of_another_key_is_not_this_ones() -> None:
    tokens = Tokens(Trust(keys=pem_keys(pem(P256), ())))
    assert refusal(tokens, jwt.encode(claims(), P384, "ES384")) == WRONG_ALGORITHM
    assert refusal(tokens, jwt.encode(claims(), RSA, "PS256")) == WRONG_ALGORITHM


def test_algorithms_can_be_narrowed() -> None:
    tokens = Tokens(Trust(keys=pem_keys(pem(RSA), ("RS512",))))
    assert refusal(tokens, jwt.encode(claims(), RSA, "RS256")) == WRONG_ALGORITHM
    assert tokens.verify(jwt.encode(claims(), RSA, "RS512"))


PRIVATE = ED25519.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024)
KEY_KINDS = "expected RSA of at least 2048 bits, EC on P-256, P-384 or P-521, or Ed25519"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "expected 1 to 64 public keys in PEM"),
        (b"no PEM", "expected 1 to 64 public keys in PEM"),
        (PRIVATE, "expected 1 to 64 public keys in PEM"),
        (pem(RSA) + PRIVATE, "expected 1 to 64 public keys in PEM"),
        (pem(RSA) * 65, "expected 1 to 64 public keys in PEM"),
        (pem(SHORT), KEY_KINDS),
        (pem(ec.generate_private_key(ec.SECP256K1())), KEY_KINDS),
        (pem(RSA)[:100], "."),
    ],
    ids=itertools.count(),  # the keys are new in each run, but the workers of pytest need the same names
)
def test_files_that_hold_no_public_keys(text: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        pem_keys(text, ())


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"keys":7}', b'{"keys":[]}', b"[" * 5000, b'{"keys":[{}]}', b'{"keys":[{"kty":"RSA"}]}']
    + [
        json.dumps({"keys": [key]}).encode()
        for key in (
            {"kty": "oct", "k": part(b"x" * 32), "alg": "HS256", "kid": "a"},
            jwk(RSA, use="enc"),
            jwk(RSA, alg="HS256"),
            jwk(P256, alg="ES384"),
            jwk(RSA, alg="none"),
            jwk(RSA, n=7),
        )
    ],
    ids=itertools.count(),
)
def test_sets_without_a_key_that_can_be_used(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a JWK set|no key in it can be used"):
        jwks_keys(text, ())


def test_a_set_is_read_for_what_it_holds() -> None:
    text = json.dumps({"keys": [{"kty": "new"}, jwk(RSA, kid="a", alg="RS256"), jwk(P256, kid=7)]}).encode()
    assert [(key.kid, key.algorithms) for key in jwks_keys(text, ())] == [("a", ("RS256",)), (None, ("ES256",))]


class Source:
    """A source of keys that a test sets."""

    def __init__(self, *keys: TrustedKey) -> None:
        self.keys: Sequence[TrustedKey] = keys
        self.waiting: list[Callable[[], None]] = []
        self.rests = False

    def refresh(self, then: Callable[[], None]) -> bool:
        if not self.rests:
            self.waiting.append(then)
        return not self.rests


def trusted(key: Any, kid: str) -> TrustedKey:
    return jwks_keys(json.dumps({"keys": [jwk(key, kid=kid)]}).encode(), ())[0]


def test_a_key_that_is_not_there_yet_is_waited_for() -> None:
    source, outcomes = Source(trusted(RSA, "old")), list[Any]()
    tokens = Tokens(Trust(keys=secret_keys(SECRET, ()), source=source))
    tokens.identify(jwt.encode(claims(), P256, "ES256", headers={"kid": "new"}), outcomes.append)
    assert not outcomes
    source.keys = (trusted(P256, "new"),)
    source.waiting.pop()()
    assert outcomes[0].client_id == "alice"


@pytest.mark.parametrize("kid", ["new", "../../etc/passwd", "' OR 1=1", "x" * 1000, ""])
def test_row_21_an_unknown_kid_is_refused_while_the_source_rests(kid: str) -> None:
    source, outcomes = Source(trusted(RSA, "old")), list[Any]()
    source.rests = True
    Tokens(Trust(source=source)).identify(jwt.encode(claims(), RSA, "RS256", headers={"kid": kid}), outcomes.append)
    assert str(outcomes[0]) == "token: kid: not a key that is trusted here"


@pytest.mark.parametrize(
    "token",
    [make_token(), BAD_TOKENS["unsigned"][0], BAD_TOKENS["a word"][0]],
    ids=["of a secret", "unsigned", "a word"],
)
def test_no_key_is_fetched_for_what_no_key_could_mend(token: str) -> None:
    source, outcomes = Source(trusted(RSA, "old")), list[Any]()
    Tokens(Trust(source=source)).identify(token, outcomes.append)
    assert len(outcomes) == 1
    assert not source.waiting


def test_signing() -> None:
    chosen: dict[str, Any] = {"subscribe": ["a.*"], "publish": [], "admin": False, "audience": ["us"], "issuer": ["me"]}
    chosen |= {"filters": {"a.*": "payload.a == 1"}, "check_filter": FILTERS.compile}
    (trusted,) = secret_keys(SECRET, ())
    token = sign(trusted, sub="alice", ttl=60, **chosen)
    signed = by_secret(audience=["us"], issuer=["me"], check_filter=FILTERS.compile).verify(token)
    assert (signed.subscribes, signed.filters_for("a.b")) == ("a.*", ("payload.a == 1",))
    mistakes: list[dict[str, Any]] = [{"ttl": 0}, {"sub": ""}, {"filters": {"a": "payload."}}]
    for wrong in mistakes:
        with pytest.raises(ValueError, match="token"):
            sign(trusted, **{"sub": "alice", "ttl": 60, **chosen, **wrong})


def test_algorithms_are_those_that_have_keys() -> None:
    assert set(SIGNERS) < set(ALGORITHMS)
