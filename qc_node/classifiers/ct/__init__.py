"""Classifier for CT: which part of the body a series shows, and whether it is contrast-enhanced."""
