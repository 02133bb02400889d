"""What the readers of several formats share: files, fields, geometry, questions and categories."""
