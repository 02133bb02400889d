"""The command line. Each command is a file; what is heavy is imported when a command runs."""

from deixis.cli.app import app, main, run

__all__ = ["app", "main", "run"]
