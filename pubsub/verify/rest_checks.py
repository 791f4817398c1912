"""Checks over REST: the way to the server, credentials, the basic contract, errors and large bodies."""

from __future__ import annotations

import time
from typing import Any

from pubsub.client.address import cause_of
from pubsub.client.refusals import text_of
from pubsub.verify import advice
from pubsub.verify.deployment import Deployment, advice_for, decode, describe, expect, is_error, shown
from pubsub.verify.http import Answer
from pubsub.verify.outcomes import CheckFailed, CheckSkipped

CONNECTIONS = 8


async def reach(deployment: Deployment) -> str:
    """Find a server of this protocol at the URL, and in good health."""
    begun = time.monotonic()
    try:
        answer = await deployment.call("GET", "/health")
    except OSError as error:
        raise CheckFailed(f"cannot reach it: {cause_of(error)}", advice.URL) from None
    milliseconds = 1000 * (time.monotonic() - begun)
    health = decode(answer)
    if 300 <= answer.status < 400:
        raise CheckFailed(f"redirected to {answer.fields.get('Location', '')!r}", "give that address as --url")
    if not isinstance(health, dict) or "uptime_sec" not in health:
        raise CheckFailed(f"expected the health of a server, got {describe(answer)}", advice_for(answer) or advice.URL)
    if (status := health.get("status")) is not None:
        raise CheckFailed(f"the server says {status}: {health.get('reason', 'it shuts down')}")
    return f"the server answered in {milliseconds:.0f} ms{proxies_of(answer)}"


def proxies_of(answer: Answer) -> str:
    """Return the names of the proxies that tell theirs."""
    server = answer.fields.get("Server", "")
    names = [name for name in (answer.fields.get("Via", ""), server) if name and name != "pubsub"]
    return f", through {', '.join(names)}" if names else ""


async def credentials(deployment: Deployment) -> str:
    """See if the key or the token comes to the server."""
    fields = deployment.credentials.headers
    answer = await deployment.call("GET", "/topics?limit=1")
    if answer.status == 200 and isinstance(found := decode(answer), dict) and "topics" in found:
        return "the server accepts them" if fields else "none are needed for this"
    if not is_error(answer):
        raise CheckFailed(f"GET /topics: expected a list, got {describe(answer)}", advice_for(answer))
    if not fields:
        raise CheckSkipped("there are none; the server wants an API key (--api-key) or a token (--token)")
    if text_of(answer.body).startswith("expected an API key"):
        raise CheckFailed("the server got neither X-API-Key nor Authorization", advice.CREDENTIALS_LOST)
    raise CheckFailed(f"the server refuses them: {describe(answer)}")


async def rest(deployment: Deployment) -> str:
    """Create, list and delete a topic. A proxy that keeps answers shows an old list."""
    topic = f"{deployment.prefix}.rest"
    listing = f"/topics?prefix={deployment.prefix}.rest"
    expect(await deployment.call("GET", listing), 200, "GET /topics", {"topics": [], "next": None})
    await deployment.create_topic("rest")
    answer = await deployment.call("POST", "/topics", {"name": topic})
    expect(answer, 409, "POST /topics of a topic that exists", {"error": "topic already exists"})
    names = names_in(await deployment.call("GET", listing))
    if names != [topic]:
        raise CheckFailed(f"GET /topics: expected the new topic, got {names}", advice.ANSWERS_KEPT)
    await deployment.publish(topic, [1, "two"])
    kept = decode(await deployment.call("GET", f"/topics/{topic}/messages?last_n=5"))
    payloads = payloads_in(kept)
    if payloads != [1, "two"]:
        raise CheckFailed(f"GET /topics/…/messages: expected what was published, got {payloads}", advice.ANSWERS_KEPT)
    deleted = await deployment.call("DELETE", f"/topics/{topic}")
    expect(deleted, 200, "DELETE /topics/…", {"status": "deleted", "topic": topic})
    expect(await deployment.call("GET", f"/topics/{topic}"), 404, "GET /topics/… after DELETE")
    return "created, listed, published to, read and deleted a topic"


def names_in(answer: Answer) -> list[Any]:
    found = decode(answer)
    topics = found.get("topics") if isinstance(found, dict) else None
    return [each.get("name") for each in topics if isinstance(each, dict)] if isinstance(topics, list) else []


def payloads_in(kept: Any) -> list[Any]:
    messages = kept.get("messages") if isinstance(kept, dict) else None
    if not isinstance(messages, list):
        return []
    return [each["message"]["payload"] for each in messages if isinstance(each, dict) and "message" in each]


async def errors(deployment: Deployment) -> str:
    """See if errors come as the server wrote them."""
    requests = {
        "GET of an unknown path": ("GET", f"/{deployment.prefix}", b"", 404),
        "PUT /topics": ("PUT", "/topics", b"", 405),
        "POST of a body that is no JSON": ("POST", "/topics", b"{", 400),
    }
    for what, (method, path, body, status) in requests.items():
        answer = await deployment.send(method, path, body)
        if not is_error(answer):
            raise CheckFailed(f"{what}: expected an error in JSON, got {answer.status} and {shown(answer.body)}",
                              advice.ERROR_PAGES)  # fmt: skip
        if answer.status not in (status, 401, 403):
            raise CheckFailed(f"{what}: expected status {status}, got {describe(answer)}")
    return "404, 405 and 400 came in JSON"


async def coding(deployment: Deployment) -> str:
    """See if answers are compressed only for clients that accept it, and can be read then."""
    topic = await deployment.create_topic("gzip")
    await deployment.publish(topic, ["x" * 2048])
    path = f"/topics/{topic}/messages?last_n=1"
    plain = await deployment.call("GET", path)
    expect(plain, 200, "GET /topics/…/messages")
    if plain.coding:
        raise CheckFailed(f"an answer came with {plain.coding}, which was not asked for", advice.CODING)
    packed = await deployment.call("GET", path, accept_encoding="gzip")
    if packed.body != plain.body:
        raise CheckFailed("an answer with gzip differs from the same without", advice.CODING)
    return (
        f"gzip is used where it is accepted ({len(plain.body):,} bytes)" if packed.coding else "nothing is compressed"
    )


async def body(deployment: Deployment) -> str:
    """Publish a large message over REST."""
    topic = await deployment.create_topic("body")
    answer = await deployment.call("POST", f"/topics/{topic}/messages", {"payload": "x" * deployment.size})
    if answer.status == 413 and is_error(answer):
        raise CheckSkipped(f"MAX_MESSAGE_BYTES of the server is less than {deployment.size:,}: choose a smaller --size")
    expect(answer, 200, f"POST of {deployment.size:,} bytes")
    return f"a message of {deployment.size:,} bytes was taken"


async def topics(deployment: Deployment) -> str:
    """Make a topic, and look for it with several connections: without shared topics, each server has its own."""
    topic = await deployment.create_topic("topics")
    missing = 0
    for _ in range(CONNECTIONS):
        answer = await deployment.call("GET", f"/topics/{topic}")
        if answer.status == 404 and is_error(answer):
            missing += 1
        else:
            expect(answer, 200, "GET /topics/…")
    if missing:
        raise CheckFailed(f"{missing} of {CONNECTIONS} connections came to a server without the topic", advice.SPREAD)
    return f"{CONNECTIONS} connections, which may go to any server, found a new topic"
