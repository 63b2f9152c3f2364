"""The school: rater tools, artefact simulation, training and evaluation."""
