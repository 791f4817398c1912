"""Items of a subscription of the Python client, and positions, in the form that the judge takes."""

from __future__ import annotations

from collections.abc import Mapping

from judge import Judge, Positions
from reading import Place, Told

from pubsub.client import Event, Gap, Position


def take_item(judge: Judge, name: str, item: object) -> None:
    """Have an item judged that a subscription of the client ``name`` gave."""
    match item:
        case Event():
            place = Place(item.topic, item.epoch, item.seq)
            judge.take_event(name, place, {"id": item.id, "payload": item.payload})
        case Gap():
            told = Told(item.topic, item.epoch, item.reason, item.from_seq, item.to_seq, item.count)
            judge.take_gap(name, told)
        case _:
            judge.broken.append(f"{name}: nobody asked for {item}")


def positions_of(positions: Mapping[str, Position]) -> Positions:
    return {topic: (each.epoch, each.seq) for topic, each in positions.items()}
