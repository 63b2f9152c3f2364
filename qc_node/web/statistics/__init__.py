"""What a department sees of its votes."""
