"""Implementations of the journal that core/journal.py describes."""
