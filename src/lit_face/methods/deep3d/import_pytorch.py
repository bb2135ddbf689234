"""Turn the weights of Deep3DFaceRecon_pytorch into a portable folder.

    python -m lit_face.methods.deep3d.import_pytorch epoch_20.pth deep3d --bfm BFM

BFM is that project's folder: 01_MorphableModel.mat, Exp_Pca.bin, std_exp.txt, BFM_exp_idx.mat and
BFM_front_idx.mat. Only numbers are read; nothing in the files is executed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lit_face.io.matlab import load_mat
from lit_face.io.portable_folder import write_portable
from lit_face.methods.deep3d.build import deep3d_face
from lit_face.methods.deep3d.predictor import Deep3DPredictor
from lit_face.methods.deep3d.regressor import Deep3DRegressor
from lit_face.morphable_models.base import MorphableModel

IMAGE_SIZE = 224
FRONT_FILE = "BFM_front_idx.mat"
_RECORD = {
    "method": "Deep3D (Deng et al., CVPRW 2019), weights of Deep3DFaceRecon_pytorch",
    "licence": "Deep3DFaceRecon_pytorch is MIT; this folder holds a part of the Basel Face Model "
    "2009 (non-commercial, registration): it must not be passed on",
}


def convert(
    checkpoint: str | Path,
    out: str | Path,
    model: MorphableModel,
    origin: Sequence[float],
    backbone: str = "resnet50",
) -> Path:
    """Write a portable folder with the weights of a checkpoint.

    Args:
        checkpoint: `epoch_20.pth`.
        out: the folder to write.
        model: the Basel Face Model 2009 with Deep3D's expressions.
        origin: (3,) mm, the mean of Deep3D's vertices in the model's head space.
        backbone: of the checkpoint.

    Raises:
        FileNotFoundError, ValueError, FileExistsError: what is wrong with which file.
    """
    network = Deep3DRegressor(backbone, weights=str(checkpoint))
    face = deep3d_face(model, origin=origin)
    wanted = {name: network.options[name] for name in face.counts}
    if face.counts != wanted:
        raise ValueError(
            f"The checkpoint has coefficients {wanted}, the model '{model.name}' {face.counts}: it "
            "needs Deep3D's expressions, Exp_Pca.bin and std_exp.txt."
        )
    predictor = Deep3DPredictor(network, face, IMAGE_SIZE)
    record = {**_RECORD, "converted_from": Path(checkpoint).name}
    return write_portable(out, predictor.config, predictor.state_dict(), record)


def front_origin(model: MorphableModel, file: str | Path) -> list[float]:
    """Return the mean (3,), mm, of the vertices that Deep3D keeps of its model.

    Args:
        model: the Basel Face Model 2009, trimmed as its expressions are.
        file: `BFM_front_idx.mat`, whose `idx` counts these vertices from 1.

    Raises:
        FileNotFoundError, ValueError: the file is missing or belongs to another model.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it is in Deep3DFaceRecon_pytorch's BFM/.")
    found = load_mat(path).get("idx")
    index = np.asarray([] if found is None else found).astype(np.int64).ravel() - 1
    if not len(index) or not 0 <= index.min() <= index.max() < len(model.mean):
        raise ValueError(
            f"{path}: 'idx' should name vertices 1 to {len(model.mean)}; found {len(index)} of them"
            + (f" from {index.min() + 1} to {index.max() + 1}." if len(index) else ".")
        )
    middle: list[float] = model.mean.cpu().numpy()[index].mean(axis=0).tolist()
    return middle


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m lit_face.methods.deep3d.import_pytorch",
        description=__doc__.splitlines()[0],
    )
    parser.add_argument("checkpoint", help="epoch_20.pth")
    parser.add_argument("out", help="folder to write")
    parser.add_argument("--bfm", required=True, help="Deep3DFaceRecon_pytorch's folder BFM")
    parser.add_argument("--backbone", default="resnet50", help="of the checkpoint")
    given: Any = parser.parse_args(arguments)
    try:
        from lit_face.morphable_models.bfm2009 import bfm2009

        model = bfm2009(given.bfm)
        origin = front_origin(model, Path(given.bfm) / FRONT_FILE)
        folder = convert(given.checkpoint, given.out, model, origin, given.backbone)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"lit_face cannot convert: {error}\n")
        return 2
    sys.stdout.write(f"{folder} is ready: python reconstruct.py ckpt={folder} input=PHOTOS\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
