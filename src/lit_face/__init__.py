"""lit_face: learn 3D faces from images. Importing it is light: no torch, no global state."""

from lit_face._compat import arm_torchvision_repair

__version__ = "0.1.0"

arm_torchvision_repair()
