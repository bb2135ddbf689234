"""Training-time side effects, one callback a file."""

import lit_face  # noqa: F401, I001  (first: arms the torchvision repair)

from callbacks.config_in_checkpoint import ConfigInCheckpoint
from callbacks.metrics_file import MetricsFile
from callbacks.non_finite_guard import NonFiniteGuard
from callbacks.panels import Panels
from callbacks.sync_batch_norm import SyncBatchNorm
from callbacks.throughput import Throughput
from callbacks.weight_average import WeightAverage

__all__ = [
    "ConfigInCheckpoint",
    "MetricsFile",
    "NonFiniteGuard",
    "Panels",
    "SyncBatchNorm",
    "Throughput",
    "WeightAverage",
]
