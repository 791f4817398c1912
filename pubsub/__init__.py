"""A WebSocket publish/subscribe server with REST topic management."""

__version__ = "0.1.0"
