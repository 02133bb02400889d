"""Samples from drawn scenes and annotation files, and the tasks made from them."""
