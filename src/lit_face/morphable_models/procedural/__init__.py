"""The built-in procedural head: a nonlinear parametric head whose population became a linear model."""

from lit_face.morphable_models.procedural.head import ProceduralHead, procedural_head

__all__ = ["ProceduralHead", "procedural_head"]
