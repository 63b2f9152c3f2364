"""Who may do what: readers, sessions, tokens, limits and headers."""
