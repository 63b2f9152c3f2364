"""The CT networks: training, fitting the card's numbers, shipping."""
