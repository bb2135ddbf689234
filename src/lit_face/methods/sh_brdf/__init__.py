"""Self-supervised reconstruction with SH light and a BRDF (Dib et al. 2021)."""

from lit_face.methods.sh_brdf.module import SHBRDFModule
from lit_face.methods.sh_brdf.network import SHBRDFNetwork

__all__ = ["SHBRDFModule", "SHBRDFNetwork"]
