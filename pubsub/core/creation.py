"""Creation of topics: on request, and at the first use of a name where a rule says so. No I/O.

A topic that its journal is still creating is not among the topics yet. A subscriber waits for it; a message is appended
to its log, and the journal keeps the order.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import structs

from pubsub.core.log import ignore
from pubsub.core.topic import Topic
from pubsub.core.topic_rules import TopicRules
from pubsub.protocol.errors import BadRequest, Conflict, Failure, LimitExceeded, TopicExists, TopicNotFound
from pubsub.protocol.patterns import check_topic
from pubsub.protocol.requests import TopicOptions

if TYPE_CHECKING:
    from pubsub.core.journal import Journal
    from pubsub.core.log import Done, TopicLog
    from pubsub.protocol.requests import Publish

log = logging.getLogger(__name__)

MAX_RING: Final = 1_000_000  # messages that a topic may keep in memory


def check_options(options: TopicOptions) -> None:
    """Raise BadRequest for options that do not fit together."""
    if options.history is not None and options.history > MAX_RING and not options.durable:
        raise BadRequest(f"history: expected at most {MAX_RING} of a topic that is not durable, got {options.history}")


class Creations:
    """See the module. ``topics``: all that exist; the Broker's. ``journal_of`` finds the journal for a topic's options.

    ``ring_size``: messages that a topic keeps unless its options say otherwise. ``max_topics``: 0 is no limit.
    """

    def __init__(
        self,
        topics: Mapping[str, Topic],
        journal_of: Callable[[TopicOptions], Journal],
        rules: TopicRules,
        *,
        ring_size: int,
        max_topics: int,
    ) -> None:
        self._topics = topics
        self._journal_of = journal_of
        self._rules = rules
        self._ring_size = ring_size
        self._max_topics = max_topics
        self._coming: dict[str, list[Done]] = {}  # topics that their journal is creating: the callbacks that wait
        self._logs: dict[str, TopicLog] = {}  # of those topics
        self._dead_letter_topics = Counter[str]()  # the number of topics that name them

    def create(self, name: str, options: TopicOptions, done: Done) -> None:
        """Create a topic, then call ``done``. Raises BadRequest, TopicExists, LimitExceeded."""
        check_topic(name)
        if name in self._topics or name in self._coming:
            raise TopicExists(name)
        if self._max_topics and len(self._topics) + len(self._coming) >= self._max_topics:
            raise LimitExceeded(f"the server has its {self._max_topics} topics (MAX_TOPICS)")
        if options.history is None:
            options = structs.replace(options, history=self._ring_size)
        check_options(options)
        self._check_dead_letter(name, options.dead_letter)
        journal = self._journal_of(options)
        self._coming[name] = [done]
        log_ = journal.create(name, options, lambda failure: self._end(name, failure))
        if name in self._coming:
            self._logs[name] = log_

    def _check_dead_letter(self, name: str, dead_letter: str | None) -> None:
        """Check the topic for dead letters, which a rule may create now. Raises BadRequest, LimitExceeded."""
        if dead_letter is None:
            return
        if name in self._dead_letter_topics:
            raise BadRequest(f"dead_letter: expected none, because topic '{name}' is the dead_letter of another")
        if dead_letter == name:
            raise BadRequest(f"dead_letter: expected another topic than '{name}' itself")
        try:
            if dead_letter not in self._topics:
                self.create_for_use(dead_letter)
        except TopicNotFound:
            raise BadRequest(f"dead_letter: topic '{dead_letter}' does not exist") from None
        except BadRequest as failure:
            raise BadRequest("dead_letter" + str(failure).removeprefix("topic")) from None
        if (found := self._topics.get(dead_letter)) is not None and found.options.dead_letter is not None:
            raise BadRequest(f"dead_letter: topic '{dead_letter}' has a dead_letter of its own")

    def began(self, topic: Topic) -> None:
        """Take note of a topic that exists from now on."""
        if topic.options.dead_letter is not None:
            self._dead_letter_topics[topic.options.dead_letter] += 1

    def ended(self, topic: Topic) -> None:
        """Take note of a topic that is gone."""
        name = topic.options.dead_letter
        if name is not None:
            self._dead_letter_topics[name] -= 1
            if not self._dead_letter_topics[name]:
                del self._dead_letter_topics[name]

    def create_for_use(self, name: str) -> None:
        """Create the topic that a client uses and that does not exist, unless it is coming already.

        Raises TopicNotFound if no rule says so, BadRequest, LimitExceeded.
        """
        if not self._may_create(name):
            raise TopicNotFound(name)
        if name not in self._coming:
            self.create(name, self._rules.options_of(name, {}), ignore)

    def log_for_use(self, name: str, requests: Sequence[Publish]) -> TopicLog:
        """The log of a topic that a client publishes to and that does not exist yet.

        Raises as create_for_use, and Conflict: a new topic has the ``seq`` 0, so it is not created if the first message
        expects another.
        """
        expected = requests[0].expect_seq
        if expected and name not in self._coming and self._may_create(name):
            raise Conflict(expected, 0, item=0 if len(requests) > 1 else None)
        self.create_for_use(name)
        return self._topics[name].log if name in self._topics else self._logs[name]

    def use(self, name: str, then: Callable[[Topic | Failure], None]) -> None:
        """Call ``then`` with a topic that a client subscribes to, in this step or once it is created.

        Raises as create_for_use.
        """
        if name not in self._topics:
            self.create_for_use(name)
        if (topic := self._topics.get(name)) is not None:
            topic.uses += 1  # it is not idle, although the subscription may begin later
            then(topic)
        else:
            self._coming[name].append(lambda failure: then(self._topics.get(name) or _of_use(failure, name)))

    def _may_create(self, name: str) -> bool:
        check_topic(name)
        return self._rules.find(name).create

    def _end(self, name: str, failure: Failure | None) -> None:
        waiting = self._coming.pop(name)
        self._logs.pop(name, None)
        if failure is None and (topic := self._topics.get(name)) is not None:  # it may have ended again
            log.info(
                "Topic created: %(topic)s (buffer size: %(buffer_size)d)",
                {"topic": name, "buffer_size": topic.history, "durable": topic.options.durable},
            )
        for done in waiting:
            try:
                done(failure)
            except Exception:  # a fault of one client must not keep the outcome from the others
                log.exception("Internal error at the creation of topic %(topic)s", {"topic": name})


def _of_use(failure: Failure | None, name: str) -> Failure:
    """The failure of a creation for a client that only uses the topic: another server may have created it."""
    return TopicNotFound(name) if failure is None or isinstance(failure, TopicExists) else failure
