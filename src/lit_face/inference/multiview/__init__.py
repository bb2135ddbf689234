"""One subject from calibrated photos: every stage from photos to a mesh with wrinkles."""
