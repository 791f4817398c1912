"""The value of the header ``Server``: the name of the program, without a version that would show its weak points."""

from typing import Final

SERVER: Final = "pubsub"
