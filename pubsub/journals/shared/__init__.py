"""The journal of several servers: one engine orders and keeps the messages, and every server follows all topics."""
