"""Use of a trained method."""
