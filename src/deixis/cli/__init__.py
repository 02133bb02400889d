"""The command line: one file for each command; heavy modules are imported when a command runs."""

from deixis.cli.app import app, main, run

__all__ = ["app", "main", "run"]
