"""Where samples come from: drawn scenes, annotation files, and the tasks made of them."""
