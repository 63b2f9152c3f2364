"""What the header of a series claims, and which classifier it is for."""
