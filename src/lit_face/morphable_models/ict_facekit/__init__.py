"""ICT-FaceKit Light (Li et al., CVPR 2020; MIT licence): scanned identities, ARKit-like shapes."""

from lit_face.morphable_models.ict_facekit.model import ICTFaceKit, ict_facekit

__all__ = ["ICTFaceKit", "ict_facekit"]
