"""Image and video files from untrusted sources; readers of annotations and of pixels share this."""
