"""Cameras, rotations, alignment, meshes, UV resampling, spherical harmonics."""
