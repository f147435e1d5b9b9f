"""What each command does; cli.py has their options."""
