"""Images, regions and conversations become tensors."""
