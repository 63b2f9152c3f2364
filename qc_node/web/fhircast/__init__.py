"""FHIRcast as a subscriber: what is on the reader's screen."""
