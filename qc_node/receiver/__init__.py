"""The receiver: bytes arrive from the network, become durable files and ledger rows, and are acknowledged."""
