"""Stored objects become one regular volume, or a sentence says why not."""
