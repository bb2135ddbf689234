"""FLAME: its files, its function in metres (`layer`), and `flame`, the same as a house model."""

from lit_face.morphable_models.flame.model import Flame, flame

__all__ = ["Flame", "flame"]
