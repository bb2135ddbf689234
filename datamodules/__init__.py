"""One thin LightningDataModule a dataset."""

import lit_face  # noqa: F401, I001  (first: arms the torchvision repair)

from datamodules.aflw2000 import AFLW2000DataModule
from datamodules.base import FaceDataModule
from datamodules.celeba_skin import CelebASkinDataModule
from datamodules.facescape import FaceScapeDataModule
from datamodules.facescape_details import FaceScapeDetailsDataModule
from datamodules.ffhq import FFHQDataModule
from datamodules.rendered import RenderedDataModule
from datamodules.synthetic import SyntheticDataModule
from datamodules.texture_maps import TextureMapsDataModule
from datamodules.w300lp import W300LPDataModule

__all__ = [
    "AFLW2000DataModule",
    "CelebASkinDataModule",
    "FFHQDataModule",
    "FaceDataModule",
    "FaceScapeDataModule",
    "FaceScapeDetailsDataModule",
    "RenderedDataModule",
    "SyntheticDataModule",
    "TextureMapsDataModule",
    "W300LPDataModule",
]
