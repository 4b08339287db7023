"""From frames to a checked video file and its previews."""
