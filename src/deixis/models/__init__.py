"""The model and its parts; `pointing.py` is the file to read first."""
