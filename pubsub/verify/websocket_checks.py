"""Checks over a raw WebSocket: the upgrade, the messages, an exact resume, limits, large messages and compression."""

from __future__ import annotations

import asyncio
import uuid
from typing import Final

from msgspec import Raw

from pubsub.client.errors import ServerFault
from pubsub.client.frames import EXTENSION, FIN_TEXT
from pubsub.client.refusals import text_of
from pubsub.client.replies import Ack, Error, Event, Info, Pong, Reply
from pubsub.client.requests import Message, Ping, Position, Publish, Subscribe, Unsubscribe
from pubsub.verify import advice
from pubsub.verify.deployment import Deployment, advice_for, decode, describe, expect, is_error
from pubsub.verify.http import Answer
from pubsub.verify.outcomes import CheckFailed, CheckSkipped
from pubsub.verify.websocket import Closed, HandshakeRefused, WebSocket

PAYLOAD: Final = '{"price": 1.50, "big": 12345678901234567890, "text": "\\u00e9 <b>é</b> 🙂", "null": null}'
"""Spelled in ways that a proxy or a library could change."""
LEAVE_SEC: Final = 3.0
TOO_BIG: Final = 1009
_FRAME_TOO_BIG: Final = bytes((FIN_TEXT, 0x80 | 127)) + (2**40).to_bytes(8, "big") + bytes(4)


async def upgrade(deployment: Deployment) -> str:
    """Open a WebSocket, and ask for a sign of life."""
    try:
        async with deployment.websocket("upgrade") as websocket:
            reply = await websocket.ask(Ping())
    except HandshakeRefused as refused:
        raise CheckFailed(f"the handshake was answered with {describe(refused.answer)}",
                          advice_for_refusal(refused.answer)) from None  # fmt: skip
    except Closed as closed:
        raise without_token(deployment, str(closed)) from None
    if isinstance(reply, Error) and reply.error.code == "UNAUTHORIZED":
        raise without_token(deployment, reply.error.message)
    if not isinstance(reply, Pong):
        raise CheckFailed(f"expected a pong, got {reply}")
    return "the handshake was answered with 101, a ping with a pong"


def without_token(deployment: Deployment, told: str) -> CheckFailed | CheckSkipped:
    """Return the end of a check for a WebSocket without the right of a token."""
    if not deployment.credentials.token:
        return CheckSkipped(f"the server wants a token for WebSockets (--token): {told}")
    return CheckFailed(f"the token did not come with the handshake: {told}", advice.CREDENTIALS_LOST)


def advice_for_refusal(answer: Answer) -> str:
    text = text_of(answer.body)
    if text.startswith("handshake: expected HTTP/1.1"):
        return f"{advice.HTTP_1_0}; {advice.UPGRADE}"
    if answer.status in (400, 426) and not text.startswith("client_id"):
        return advice.UPGRADE
    if answer.status == 403:
        return advice.ORIGIN
    return advice_for(answer) or (advice.UPGRADE if not is_error(answer) else "")


async def origin(deployment: Deployment) -> str:
    """Do what a page of this site does, with the header Origin."""
    own = deployment.address.origin
    try:
        async with deployment.websocket("origin", {"Origin": own}):
            pass
    except HandshakeRefused as refused:
        raise CheckFailed(f"a page of {own} is refused: {describe(refused.answer)}", advice.ORIGIN) from None
    answer = await deployment.send("POST", "/topics", b"{", origin=own)
    if answer.status == 403 and text_of(answer.body).startswith(("Origin", "Host")):
        raise CheckFailed(f"a page of {own} is refused: {describe(answer)}", advice.ORIGIN)
    return f"a page of {own} may connect"


async def messages(deployment: Deployment) -> str:
    """Use each message of the basic contract."""
    topic = await deployment.create_topic("messages")
    name = deployment.client_id("messages")
    async with deployment.websocket("messages") as websocket:
        expect_ack(await websocket.ask(Subscribe(topic=topic, client_id=name)), "subscribe")
        message = Message(str(uuid.uuid4()), Raw(PAYLOAD.encode()))
        expect_ack(await websocket.ask(Publish(topic=topic, message=message)), "publish")
        event = await next_event(websocket)
        if (event.seq, event.message) != (1, message):
            raise CheckFailed(f"a message has changed on its way: {event}", advice.FRAMES)
        none = Publish(topic=f"{deployment.prefix}.none", message=message)
        expect_error(await websocket.ask(none), {"TOPIC_NOT_FOUND", "FORBIDDEN"}, "a publish to no topic")
        wrong = Publish(topic=topic, message=Message("no id", Raw(b"1")))
        expect_error(await websocket.ask(wrong), {"BAD_REQUEST"}, "a publish without a UUID")
        expect_ack(await websocket.ask(Unsubscribe(topic=topic, client_id=name)), "unsubscribe")
    return "subscribe, publish, unsubscribe and errors do what docs/protocol.md says"


def expect_ack(reply: Reply, what: str) -> Ack:
    """Return ``reply`` if it is an ack. Raises CheckFailed; CheckSkipped where a limit of the server is reached."""
    if isinstance(reply, Ack):
        return reply
    if isinstance(reply, Error):
        if reply.error.code in ("FORBIDDEN", "RATE_LIMITED", "LIMIT_EXCEEDED"):
            raise CheckSkipped(f"{what}: {reply.error.code}: {reply.error.message}")
        raise CheckFailed(f"{what}: expected an ack, got {reply.error.code}: {reply.error.message}")
    raise CheckFailed(f"{what}: expected an ack, got {reply}")


def expect_error(reply: Reply, codes: set[str], what: str) -> None:
    if not isinstance(reply, Error) or reply.error.code not in codes:
        raise CheckFailed(f"{what}: expected {' or '.join(sorted(codes))}, got {reply}")


async def next_event(websocket: WebSocket) -> Event:
    """Return the next event. Raises CheckFailed for anything else but a heartbeat."""
    while isinstance(reply := await websocket.next(), Info) and reply.msg == "ping":
        pass
    if not isinstance(reply, Event):
        raise CheckFailed(f"expected an event, got {reply}")
    return reply


async def resume(deployment: Deployment) -> str:
    """Cut a connection off, miss messages, and get exactly these by another connection."""
    topic = await deployment.create_topic("resume")
    wish = Subscribe(topic=topic, client_id=deployment.client_id("resume"))
    async with deployment.websocket("resume") as websocket:
        ack = expect_ack(await websocket.ask(wish), "subscribe")
        await deployment.publish(topic, [1, 2])
        seen = [(await next_event(websocket)).seq for _ in range(2)]
    await deployment.publish(topic, [3, 4, 5])
    again = Subscribe(topic=topic, client_id=wish.client_id, resume={topic: Position(epoch=ack.epoch, seq=seen[-1])})
    async with deployment.websocket("resume") as websocket:
        ack = expect_ack(await websocket.ask(again), "subscribe with resume")
        if not ack.recovered:
            raise CheckFailed(f"expected a resume without a loss, got {ack}", advice.SPREAD)
        await deployment.publish(topic, [6])
        seen += [(await next_event(websocket)).seq for _ in range(4)]
    if seen != [1, 2, 3, 4, 5, 6]:
        raise CheckFailed(f"expected each message once and in order, got {seen}")
    return "after a cut, what was missed came once and in order, then what is live"


async def limits(deployment: Deployment) -> str:
    """Send what the server must refuse; the reasons must come through, also that of a close frame."""
    topic = await deployment.create_topic("limits")
    answer = await deployment.call("POST", f"/topics/{topic}/messages", {"payload": 1, "expect_seq": 7})
    expect(answer, 409, "a publish that expects seq 7 of an empty topic")
    async with deployment.websocket("limits") as websocket:
        await websocket.send_bytes(_FRAME_TOO_BIG)
        try:
            while True:
                await websocket.read_text()
        except Closed as closed:
            if closed.code != TOO_BIG:
                raise CheckFailed(f"expected the close code {TOO_BIG}, got: {closed}", advice.CLOSE_FRAMES) from None
        except (ServerFault, ConnectionError):
            raise CheckFailed("the connection ended without a close frame", advice.CLOSE_FRAMES) from None
    return f"a wrong expect_seq got 409, a frame that is too big the close code {TOO_BIG}"


async def large(deployment: Deployment) -> str:
    """Publish a large message, and receive it."""
    topic = await deployment.create_topic("large", history=1)
    payload = Raw(b'"%b"' % (b"x" * deployment.size))
    async with deployment.websocket("large") as websocket:
        expect_ack(await websocket.ask(Subscribe(topic=topic, client_id=deployment.client_id("large"))), "subscribe")
        try:
            expect_ack(
                await websocket.ask(Publish(topic=topic, message=Message(str(uuid.uuid4()), payload))), "publish"
            )
            event = await next_event(websocket)
        except Closed as closed:
            if closed.code == TOO_BIG:
                raise CheckSkipped(f"over a limit of {deployment.size:,} bytes: choose a smaller --size") from None
            raise CheckFailed(f"at {deployment.size:,} bytes: {closed}", advice.FRAMES) from None
        if event.message.payload != payload:
            raise CheckFailed("a large message has changed on its way", advice.FRAMES)
    return f"a message of {deployment.size:,} bytes came back unchanged"


async def compression(deployment: Deployment) -> str:
    """Offer permessage-deflate, and inflate an event."""
    topic = await deployment.create_topic("compression")
    async with deployment.websocket("compression", {"Sec-WebSocket-Extensions": EXTENSION}) as websocket:
        if not websocket.compresses:
            raise CheckSkipped("not agreed on: COMPRESSION is off, or the proxy removes Sec-WebSocket-Extensions")
        name = deployment.client_id("compression")
        expect_ack(await websocket.ask(Subscribe(topic=topic, client_id=name)), "subscribe")
        await deployment.publish(topic, ["x" * 2048])
        event = await next_event(websocket)
        if event.message.payload != Raw(b'"%b"' % (b"x" * 2048)) or not websocket.deflated:
            raise CheckFailed(f"expected a compressed event, got {event}", advice.FRAMES)
    return "an event came compressed"


async def leave(deployment: Deployment) -> str:
    """Cut a client off, and see if the server notices that."""
    path = f"/clients?prefix={deployment.client_id('leave')}"
    async with deployment.websocket("leave"):
        before = connections_in(await deployment.call("GET", path))
    try:
        async with asyncio.timeout(LEAVE_SEC):
            while connections_in(await deployment.call("GET", path)) >= before:  # noqa: ASYNC110 - of another program
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise CheckFailed(f"{LEAVE_SEC:g} s later the server still has the connection", advice.LEFT) from None
    return "the server noticed at once that a client had left"


def connections_in(answer: Answer) -> int:
    """Return the number of connections in a list of clients. Raises CheckSkipped without the right to see it."""
    found = decode(answer)
    if answer.status in (401, 403):
        raise CheckSkipped(f"these credentials may not list the clients: {describe(answer)}")
    if not isinstance(found, dict) or not isinstance(rows := found.get("clients"), list):
        raise CheckFailed(f"GET /clients: expected a list, got {describe(answer)}")
    return len(rows)
