"""Simulated heads, contrast, artefacts and scanners."""
