"""The web pages: what radiologists and technologists see and say."""
