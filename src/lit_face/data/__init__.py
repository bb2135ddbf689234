"""Datasets usable without Lightning, their indices, transforms and miniatures."""
