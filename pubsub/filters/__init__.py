"""Filters: conditions in CEL on events, compiled once for each text. No I/O."""
