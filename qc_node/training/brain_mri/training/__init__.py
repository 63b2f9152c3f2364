"""Packs of simulated acquisitions, and the networks that learn from them."""
