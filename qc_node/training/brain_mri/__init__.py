"""Making and measuring the brain MRI classifier."""
