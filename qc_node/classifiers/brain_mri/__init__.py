"""Classifier for 3D T1-weighted brain MRI: volume in, verdict out."""
