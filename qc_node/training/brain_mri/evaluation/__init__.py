"""Held-out heads, tables, comparisons and pictures."""
