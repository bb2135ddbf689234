"""Metrics: a pure function and the torchmetrics class that calls it."""
