"""Files of still and moving pictures, opened without trust; what reads data and what reads pixels share it."""
