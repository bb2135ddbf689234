"""Training of identity networks: `lit_face.identity` learns who is on a picture."""

from lit_face.methods.identity.module import IdentityModule

__all__ = ["IdentityModule"]
