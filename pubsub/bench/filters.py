"""The filters of a run: as many as it wants, each different, and each one matches every message.

So the counts are those of a run without filters, and what differs is the cost of evaluating them.
"""

import enum
from dataclasses import dataclass


class Difference(enum.StrEnum):
    """The part in which the filters of a run differ: one text with other params each, or texts of their own."""

    PARAMS = "params"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter in CEL; ``params`` is JSON, empty for none."""

    text: str
    params: str = ""

    def as_query(self) -> dict[str, str]:
        return {"filter": self.text} | ({"params": self.params} if self.params else {})


def make_filter(number: int, difference: Difference) -> Filter:
    """Make the filter with this number. No message has its value in ``payload.n``."""
    value = f"never-{number}"
    if difference is Difference.TEXT:
        return Filter(f"payload.n != '{value}'")
    return Filter("payload.n != params.other", f'{{"other":"{value}"}}')
