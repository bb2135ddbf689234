"""Embeddings of faces that tell people apart: aligned crops to features."""
