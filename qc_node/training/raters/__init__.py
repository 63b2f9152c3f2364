"""Several raters, one label."""
