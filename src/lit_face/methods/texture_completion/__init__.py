"""Completion of albedo maps of which a photo showed a part (after GMCNN, Wang et al. 2018)."""

from lit_face.methods.texture_completion.module import TextureCompletionModule
from lit_face.methods.texture_completion.network import GMCNNGenerator

__all__ = ["GMCNNGenerator", "TextureCompletionModule"]
