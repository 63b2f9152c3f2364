"""When is a series, a study complete: rules over a row and the clock, and what closes it."""
