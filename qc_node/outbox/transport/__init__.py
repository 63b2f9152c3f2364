"""Ways to a destination: what the outbox asks of one, and DIMSE."""
