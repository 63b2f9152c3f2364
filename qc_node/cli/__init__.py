"""The command line: one module for each family of commands; they parse, call and print."""
