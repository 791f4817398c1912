"""API keys, good and malformed, and the permissions of an Identity."""

from __future__ import annotations

import sys

import pytest
from msgspec.structs import replace

from pubsub.auth.api_keys import ApiKeys, digest_of
from pubsub.auth.identity import FilteredIdentity, Identity
from pubsub.protocol.errors import BadRequest, Forbidden, Unauthorized

DIGEST = digest_of("k1").hex()


@pytest.mark.parametrize(
    "entry", ["ops:admin:k1", f"ops:admin:sha256:{DIGEST}", f" ops:admin:sha256:{DIGEST.upper()} ,"]
)
def test_a_key_is_known_as_it_is_or_by_its_digest(entry: str) -> None:
    identity = ApiKeys(entry).identify("k1")
    assert identity.client_id == "ops"
    assert identity.admin


def test_a_digest_is_not_the_key() -> None:
    for wrong in (DIGEST, f"sha256:{DIGEST}", "k", "k1 ", "K1", "", "\udcff"):
        with pytest.raises(Unauthorized, match="API key: unknown"):
            ApiKeys(f"ops:admin:sha256:{DIGEST}").identify(wrong)


def test_two_keys_of_one_name() -> None:
    keys = ApiKeys("ops:admin:old,ops:admin:new")
    old, new = keys.identify("old"), keys.identify("new")
    assert old.proof != new.proof
    assert replace(old, proof=None) == replace(new, proof=None)


def test_an_entry_that_has_changed_is_another_one() -> None:
    before = [ApiKeys(text).identify("k").proof for text in ("a:read:k", "a:admin:k", "b:read:k")]
    after = ApiKeys("x:admin:other,a:read:" + f"sha256:{digest_of('k').hex()}")
    assert [isinstance(proof, bytes) and after.accepts(proof) for proof in before] == [True, False, False]


def test_a_key_may_have_colons() -> None:
    assert ApiKeys("ops:read:a:b").identify("a:b").client_id == "ops"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ops", "entry 1: expected name:role:key"),
        ("ops:admin", "entry 1: expected name:role:key"),
        ("a:read:k,ops:admin", "entry 2: expected name:role:key"),
        (":admin:k", "entry 1: expected a name of 1 to 255 characters"),
        (f"{'n' * 256}:admin:k", "entry 1: expected a name of 1 to 255 characters"),
        ("ops::k", "entry 1: expected a role of admin, publish, read"),
        ("ops:root:k", "entry 1: expected a role of admin, publish, read"),
        ("ops:Admin:k", "entry 1: expected a role of admin, publish, read"),
        ("ops:admin:", "entry 1: expected a key of printable ASCII characters without blanks"),
        ("ops:admin:a b", "entry 1: expected a key of printable ASCII characters without blanks"),
        ("ops:admin:ké", "entry 1: expected a key of printable ASCII characters without blanks"),
        ("ops:admin:sha256:", "entry 1: expected 64 hex digits after sha256:"),
        ("ops:admin:sha256:abc", "entry 1: expected 64 hex digits after sha256:"),
        (f"ops:admin:sha256:{DIGEST[:-1]}g", "entry 1: expected 64 hex digits after sha256:"),
        ("a:read:same,b:admin:same", "entry 2: the key is there twice"),
        (f"a:read:k1,b:admin:sha256:{DIGEST}", "entry 2: the key is there twice"),
    ],
)
def test_a_malformed_entry_is_named_and_not_shown(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r".") as failure:
        ApiKeys(text)
    assert str(failure.value) == told


def test_no_entry_is_no_key() -> None:
    assert not ApiKeys("")
    assert not ApiKeys(" , ")


def test_rights_are_asked_for_before_anything_else() -> None:
    identity = Identity(client_id="alice", subscribes="a", publishes="b")
    identity.require_subscribe("a")
    identity.require_publish("b")
    with pytest.raises(Forbidden, match="Not allowed to subscribe to 'b'"):
        identity.require_subscribe("b")
    with pytest.raises(Forbidden, match="Not allowed to publish to 'a'"):
        identity.require_publish("a")
    with pytest.raises(Forbidden, match="client_id"):
        identity.require_client_id("bob")


@pytest.mark.parametrize("name", ["", "a..b", "x" * 256, "é", "a.*"])
def test_what_is_no_name_is_no_secret(name: str) -> None:
    identity = Identity(client_id="alice")
    for require in (identity.require_subscribe, identity.require_publish):
        with pytest.raises(BadRequest, match="topic"):
            require(name)


def test_an_identity_without_filters_sees_everything_and_takes_no_more_memory() -> None:
    identity = Identity(client_id="alice", subscribes=">")
    assert identity.filters_for("a") is identity.filters_for("b")
    assert identity.filters_for("a") == ()
    filtered = FilteredIdentity(client_id="alice", subscribes=">", filters=(("a", "true"),))
    assert sys.getsizeof(identity) < sys.getsizeof(filtered)
    assert identity != filtered


def test_filters_are_looked_up_once() -> None:
    one, two = (FilteredIdentity(client_id=name, filters=(("a.*", "true"),)) for name in ("alice", "bob"))
    assert one.filters_for("a.b") is two.filters_for("a.b")
