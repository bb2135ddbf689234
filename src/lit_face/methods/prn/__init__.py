"""Position map regression (Feng et al., ECCV 2018)."""

from lit_face.methods.prn.losses import position_map_loss
from lit_face.methods.prn.module import PRNModule
from lit_face.methods.prn.network import PRNNetwork
from lit_face.methods.prn.tensorflow_adam import TensorFlowAdam
from lit_face.methods.prn.weights import WeightMask

__all__ = ["PRNModule", "PRNNetwork", "TensorFlowAdam", "WeightMask", "position_map_loss"]
