"""A server that imports this runs on the event loop of asyncio, as if uvloop were not installed."""

from __future__ import annotations

import sys

sys.modules["uvloop"] = None  # type: ignore[assignment]
