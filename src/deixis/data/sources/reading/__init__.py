"""Code shared by the readers of several formats: files, fields, geometry, questions and categories."""
