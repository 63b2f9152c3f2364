"""``python -m qc_node``."""

from qc_node.cli import main

main()
