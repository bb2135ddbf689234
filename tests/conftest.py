import lit_face  # noqa: F401, I001  (first: arms the torchvision repair)

import os
from pathlib import Path

import pytest
import torch

REPO = Path(__file__).resolve().parents[1]

torch.set_num_threads(1)  # OpenMP barriers dominate on a busy 2-core machine


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of reference numbers; LIT_FACE_REFERENCE, default ../shared/reference."""
    folder = Path(os.environ.get("LIT_FACE_REFERENCE", REPO.parent / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip(f"reference data absent: {folder} (set LIT_FACE_REFERENCE)")
    return folder
