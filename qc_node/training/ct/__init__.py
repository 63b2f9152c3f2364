"""Making and measuring the CT classifier."""
