"""From stored objects to a volume and claims, or a sentence that says why not."""
