"""Shared code of readers: files, fields, geometry, questions and categories."""
