"""The door: bytes arrive from the network, become durable files and ledger rows, and series become complete."""
