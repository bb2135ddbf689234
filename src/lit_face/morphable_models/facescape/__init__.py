"""FaceScape's bilinear models, and the built-in head in their formats."""
