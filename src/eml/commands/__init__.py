"""The work of each command; cli.py defines the commands and their options."""
