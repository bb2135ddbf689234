"""The implicit diversified Markov random field term: patches should resemble true ones.

Source: Wang et al. (NeurIPS 2018), section 3.2; as in its release the excluded set is left out.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

log = logging.getLogger("lit_face")

_BANDWIDTH, _EPSILON = 0.5, 1e-5
_VGG_FILE = "vgg19-dcbb9e9d.pth"  # of torchvision
_LAYERS = (13, 22)  # relu3_2 and relu4_2 of VGG19
_MEAN = (0.485, 0.456, 0.406)


def id_mrf(generated: Tensor, target: Tensor) -> Tensor:
    """Return the term for one layer of features (B,C,H,W), summed over the batch as published."""
    return torch.stack(
        [_id_mrf(g, t) for g, t in zip(generated.flatten(2), target.flatten(2), strict=True)]
    ).sum()


def _id_mrf(generated: Tensor, target: Tensor) -> Tensor:
    """Return the term of one sample's features (C,N)."""
    mean = target.mean(dim=0, keepdim=True)
    generated, target = F.normalize(generated - mean, dim=0), F.normalize(target - mean, dim=0)
    distance = (1 - target.mT @ generated) / 2  # (target, generated)
    relative = distance / (distance.amin(dim=0, keepdim=True) + _EPSILON)
    similarity = ((1 - relative) / _BANDWIDTH).exp()
    share = similarity / similarity.sum(dim=0, keepdim=True)
    return -share.amax(dim=1).mean().log()


class MRFLoss:
    """ID-MRF on features of VGG19; no module, so that VGG stays out of checkpoints.

    Args:
        features: the layers of VGG19 up to relu4_2.
    """

    def __init__(self, features: nn.Sequential) -> None:
        self.features = features.eval().requires_grad_(False)

    def __call__(self, completed: Tensor, true: Tensor) -> Tensor:
        """Return style on relu3_2 and relu4_2 plus content on relu4_2, of maps in [0,1]."""
        self.features.to(completed.device)
        generated = self._layers(completed)
        with torch.no_grad():
            target = self._layers(true)
        style = sum(id_mrf(g, t) for g, t in zip(generated, target, strict=True))
        return style + id_mrf(generated[-1], target[-1])

    def _layers(self, image: Tensor) -> list[Tensor]:
        values = image - image.new_tensor(_MEAN)[:, None, None]
        kept = []
        for place, layer in enumerate(self.features):
            values = layer(values)
            if place in _LAYERS:
                kept.append(values)
        return kept


def load_mrf(download: bool) -> MRFLoss | None:
    """Return the loss with torchvision's weights of VGG19, or None and a message without them.

    Args:
        download: fetch them (550 MB, from torchvision's address) where they are not there.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / _VGG_FILE
    if not file.is_file() and not download:
        log.info(
            "The ID-MRF term needs torchvision's weights of VGG19, and %s is not there: it is left "
            "out. method.download_vgg=true fetches them (550 MB); method.weights.mrf=0 is silent.",
            file,
        )
        return None
    from torchvision.models import VGG19_Weights, vgg19

    weights: Any = VGG19_Weights.IMAGENET1K_V1
    return MRFLoss(vgg19(weights=weights).features[: max(_LAYERS) + 1])
