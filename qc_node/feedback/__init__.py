"""THE COUNTER: what radiologists and technologists see and say."""
