"""Rasterise, interpolate and shade, differentiable in vertices and attributes."""
