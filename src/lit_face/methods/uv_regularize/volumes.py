"""Cost volumes of subjects, kept on disk so that they are computed once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lit_face.io.files import atomic_write, cache_root
from lit_face.types import FaceBatch


class VolumeStore:
    """Volumes by subject; what they were computed from is part of their names.

    Args:
        implicit: photos and base mesh to volumes (B,D,S,S) in [0,1]; frozen.
        folder: where files are kept; None for the cache.
    """

    def __init__(self, implicit: nn.Module, folder: str | Path | None = None) -> None:
        self.implicit = implicit
        self.folder = cache_root(folder) / "volumes"
        self._weights: bytes | None = None

    def __call__(self, batch: FaceBatch) -> Tensor:
        """Return the volumes (B,D,S,S) of a batch, computing and keeping those that lack.

        They are kept as float16, so all that is returned has been rounded to that.
        """
        files = [self._file(batch, row) for row in range(len(batch))]
        if not all(file.is_file() for file in files):
            volumes: Tensor = self.implicit(batch).half()
            for file, volume in zip(files, volumes, strict=True):
                with atomic_write(file) as temporary, temporary.open("wb") as stream:
                    np.save(stream, volume.cpu().numpy())
            return volumes.float()
        read = [torch.from_numpy(np.load(file, allow_pickle=False)) for file in files]
        return torch.stack(read).to(batch.image.device).float()

    def _file(self, batch: FaceBatch, row: int) -> Path:
        if self._weights is None:
            digest = hashlib.sha256(repr(self.implicit).encode())
            for name, value in sorted(self.implicit.state_dict().items()):
                digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
            self._weights = digest.digest()
        digest = hashlib.sha256(self._weights)
        camera = batch.camera
        known = [batch.image, *(batch.uv_maps or {}).values()]
        known += [] if camera is None else list(vars(camera).values())
        for value in known:
            digest.update(value[row].contiguous().cpu().numpy().tobytes())
        name = batch.sample_id[row] if batch.sample_id else "volume"
        safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
        return self.folder / f"{safe}-{digest.hexdigest()[:16]}.npy"
