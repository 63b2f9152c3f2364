"""The desk: files become something to look at, or a sentence says why not."""
