"""The rules for topics: the first one whose pattern covers a name is the rule of that topic. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from pubsub.protocol.answers import TopicRule
from pubsub.protocol.patterns import PatternTree
from pubsub.protocol.requests import TopicOptions

NO_RULE: Final = TopicRule(pattern="")


class TopicRules:
    """See the module. ``listed``: the rules, which are valid, in order."""

    def __init__(self, rules: Sequence[TopicRule] = ()) -> None:
        self.replace(rules)

    def replace(self, rules: Sequence[TopicRule]) -> None:
        """Have other rules from now on. A topic that exists keeps its options."""
        self.listed = tuple(rules)
        self._tree = PatternTree(rule.pattern for rule in self.listed)

    def find(self, name: str) -> TopicRule:
        """The rule of a topic with this valid name; NO_RULE if there is none. It takes 1 to 2 µs."""
        if not self.listed:
            return NO_RULE
        first = min(self._tree.find(name), default=None)
        return NO_RULE if first is None else self.listed[first]

    def options_of(self, name: str, chosen: Mapping[str, object]) -> TopicOptions:
        """The options of a new topic: each that was not ``chosen`` has the value of the rule, if that gives one.

        A rule for dead letters does not count for the topic that gets them.
        """
        given = self.find(name).options
        if given.get("dead_letter") == name:
            given = {option: value for option, value in given.items() if option != "dead_letter"}
        return msgspec.convert({**given, **chosen}, TopicOptions)
