"""``python -m qc_node``."""

from qc_node.cli.main import main

main()
