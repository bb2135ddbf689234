"""Rasteriser kernels: each finds the nearest face of every pixel, and nothing else.

All kernels evaluate the same expressions in the same order in the dtype they are given, without
fused multiply-add, so that they agree in every pixel.
"""
