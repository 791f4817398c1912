"""One WebSocket client: its connection, its session, its timers."""
