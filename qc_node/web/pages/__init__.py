"""The pages: panel, live board, review, expert protocol, statistics."""
