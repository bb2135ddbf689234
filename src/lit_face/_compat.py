"""Repair for one broken pair of wheels: CPU torch beside a torchvision built for CUDA.

That torchvision cannot load its compiled operators, and registering the shape functions of two of
them (`nms`, `qnms`) then fails, which takes `import pytorch_lightning` down with it. The hook below
waits for the import of torchvision; on exactly that error it declares the two operators and
imports torchvision again. Every other import, and every other error, is left alone.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept_alive: list[object] = []


class _RepairingLoader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        try:
            self._loader.exec_module(module)
        except RuntimeError as error:
            if "operator torchvision::" not in str(error) or "does not exist" not in str(error):
                raise
            self._retry(module)

    def _retry(self, module: ModuleType) -> None:
        import torch

        for name in [name for name in sys.modules if name.startswith("torchvision.")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in _SCHEMAS:
            library.define(schema)
        _kept_alive.append(library)
        self._loader.exec_module(module)
        warnings.warn(
            "torchvision's compiled operators do not fit this torch (a CUDA build beside a CPU "
            "torch?). lit_face does not need them and goes on. To mend it, install torch and "
            "torchvision from the same index, see https://pytorch.org/get-started.",
            stacklevel=2,
        )


class _TorchvisionFinder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "torchvision":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _RepairingLoader(spec.loader)
        return spec


def arm_torchvision_repair() -> None:
    """Install the import hook once; `LIT_FACE_NO_REPAIR=1` leaves the import system alone."""
    if os.environ.get("LIT_FACE_NO_REPAIR") == "1" or "torchvision" in sys.modules:
        return
    if not any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())
