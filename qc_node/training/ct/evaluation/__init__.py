"""Five folds by person, baselines, errors and pictures."""
