"""The command line. Each command is a file; what is heavy is imported when a command runs."""

from deixis.cli.app import app, main

__all__ = ["app", "main"]
