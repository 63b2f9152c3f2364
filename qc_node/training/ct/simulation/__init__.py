"""Heads and trunks in Hounsfield units, and what is varied between pack and network."""
