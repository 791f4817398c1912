"""Implementations of the journal that core/journal.py describes."""

DATABASE = "journal.db"  # of durable topics, in their directory
