"""Training: rater tools, simulation, training and evaluation of the classifiers."""
