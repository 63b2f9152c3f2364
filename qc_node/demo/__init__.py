"""The demonstration: a small PACS, invented patients, and the node between them."""
