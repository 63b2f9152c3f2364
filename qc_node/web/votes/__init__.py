"""Votes: cases, casting, exchange, prompts, key objects, vote reports, expert gradings."""
