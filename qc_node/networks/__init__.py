"""Weights and their cards, and small networks that several classifiers share."""
