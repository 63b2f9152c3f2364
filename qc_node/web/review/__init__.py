"""Review: series found by any name, as the page, its table and its viewer show them."""
