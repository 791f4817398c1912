"""The requests over the WebSocket that commands stand for. It must never send one."""

from msgspec import UNSET, Raw, UnsetType

from pubsub.client import requests
from pubsub.console.commands import DEFAULT_LAST, Command, ListClients, Ping, Publish, ReadHistory, Subscribe


def request_of(command: Command) -> requests.Request | None:
    """Return the request of a command; None if it is not a publish, a ping or a question."""
    match command:
        case Publish():
            return _publish(command)
        case ReadHistory():
            return _history(command)
        case ListClients(topic):
            return requests.Presence(topic=topic)
        case Ping():
            return requests.Ping()
        case _:
            return None


def _publish(command: Publish) -> requests.Publish:
    return requests.Publish(
        topic=command.topic,
        message=requests.new_message(command.payload),
        ttl_sec=UNSET if command.ttl is None else command.ttl,
        expect_seq=UNSET if command.expect is None else command.expect,
    )


def _history(command: ReadHistory) -> requests.History:
    last = DEFAULT_LAST if command.last is None and command.after is None else command.last
    return requests.History(
        topic=command.topic,
        last_n=UNSET if last is None else last,
        after=UNSET if command.after is None else command.after,
        limit=requests.MAX_HISTORY_LIMIT if command.limit is None else command.limit,
        filter=command.filter or UNSET,
        params=raw_or_unset(command.params),
    )


def subscription_of(command: Subscribe, client_id: str) -> requests.Subscribe:
    return requests.Subscribe(
        topic=command.topic,
        client_id=client_id,
        last_n=command.last,
        filter=command.filter or UNSET,
        params=raw_or_unset(command.params),
    )


def raw_or_unset(params: str) -> Raw | UnsetType:
    return Raw(params.encode()) if params else UNSET
