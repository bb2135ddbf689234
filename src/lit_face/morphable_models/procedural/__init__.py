"""The built-in procedural head: a nonlinear head whose sampled population is a linear model."""

from lit_face.morphable_models.procedural.head import ProceduralHead, procedural_head

__all__ = ["ProceduralHead", "procedural_head"]
