"""One thin LightningDataModule a dataset."""

import lit_face  # noqa: F401  (arms the torchvision repair)
