"""Events and messages as blocks of a stream, and ends of lines within them."""

from __future__ import annotations

import json

import pytest

from pubsub.core.event import Encoding, StoredEvent
from pubsub.core.topic import Topic
from pubsub.protocol.requests import TopicOptions
from pubsub.sse.encoding import MARKED_EVENTS, TOPIC_EVENTS, heartbeat, info_block, retry_line, topic_key
from tests.doubles import NoLog
from tests.streams import Block, read_blocks


def topic(name: str = "orders", epoch: str = "k3f9") -> Topic:
    return Topic(name, epoch, TopicOptions(history=0), NoLog(), ring_size=0)


def test_an_event_of_one_topic_has_its_position_as_id_and_no_name() -> None:
    encoded = TOPIC_EVENTS.events(topic(), [StoredEvent(17, b'{"a":1}'), StoredEvent(18, b'"x"')])
    assert encoded == b'id: k3f9:17\ndata: {"a":1}\n\nid: k3f9:18\ndata: "x"\n\n'


def test_an_event_of_several_topics_ends_with_the_key_of_its_topic() -> None:
    of = topic()
    encoded = MARKED_EVENTS.events(of, [StoredEvent(17, b'{"a":1}'), StoredEvent(18, b'"x"')])
    key = b"%x" % topic_key(of)
    assert encoded == b'data: {"a":1}\nid: %b.17\n\ndata: "x"\nid: %b.18\n\n' % (key, key)


def test_each_life_of_a_topic_has_a_key_of_its_own() -> None:
    keys = {topic_key(each) for each in (topic(), topic(epoch="other"), topic("trades"))}
    assert len(keys) == 3
    assert topic_key(topic()) == topic_key(topic())
    assert all(0 <= key < 1 << 63 for key in keys)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\n\n\n"])
@pytest.mark.parametrize("encoding", [TOPIC_EVENTS, MARKED_EVENTS])
def test_ends_of_lines_between_tokens_are_blanks_and_all_else_is_as_it_was(encoding: Encoding, end: str) -> None:
    """U+2028, U+2029 and U+0085 end no line of a stream, and an escaped end of line is none."""
    text = f'{{"a":{end}[1,{end}2], "b": "\\n\\r \u2028\u2029\u0085"}}{end}'
    events = [StoredEvent(1, b"0"), StoredEvent(2, text.encode()), StoredEvent(3, b"1.0e0")]
    blocks = read_blocks(encoding.events(topic(), events))
    assert [block.data for block in blocks] == [0, json.loads(text), 1.0]


def test_other_messages_are_infos() -> None:
    for encoding in (TOPIC_EVENTS, MARKED_EVENTS):
        assert read_blocks(encoding.message(b'{"type":"info"}')) == [Block(event="info", data={"type": "info"})]
    assert read_blocks(info_block(b"a:1", b"{}")) == [Block(event="info", id="a:1", data={})]


def test_a_heartbeat_is_a_comment_and_a_time_to_reconnect_a_field_of_the_next_block() -> None:
    assert read_blocks(heartbeat()) == [Block(comments=["ping"])]
    assert read_blocks(heartbeat(b"e:1")) == [Block(comments=["ping"], id="e:1")]
    assert read_blocks(retry_line(1500) + TOPIC_EVENTS.message(b"{}")) == [Block(event="info", retry=1500, data={})]
