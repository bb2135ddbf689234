"""Regression of Deep3D's coefficients, weakly supervised (Deng et al. 2019)."""

from lit_face.methods.deep3d.module import Deep3DModule
from lit_face.methods.deep3d.regressor import Deep3DRegressor

__all__ = ["Deep3DModule", "Deep3DRegressor"]
