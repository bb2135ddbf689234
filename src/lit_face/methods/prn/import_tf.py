"""Turn the released PRNet weights (a TensorFlow checkpoint) into a portable folder.

    pip install "lit_face[convert]"
    python -m lit_face.methods.prn.import_tf 256_256_resfcn256_weight prnet \
        --uv-data PRNet/Data/uv-data

Only numbers are read: TensorFlow opens the checkpoint, and no graph is run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lit_face.methods.prn.network import PRNNetwork
from lit_face.methods.prn.predictor import PRNPredictor
from lit_face.methods.prn.prnet_layout import read_prnet_layout
from lit_face.methods.prn.reader import PositionMapReader
from lit_face.methods.prn.tensorflow_weights import (
    expected_variables,
    is_optimizer_slot,
    load_tensorflow_weights,
)

_RECORD = {
    "method": "PRN (Feng et al., ECCV 2018), weights of its authors",
    "licence": "PRNet's code is MIT; what its weights inherit from 300W-LP and the Basel Face "
    "Model (non-commercial research) its authors leave open: ask them before other use",
}


class CheckpointReader(Protocol):
    """What is used of TensorFlow's `tf.train.load_checkpoint`."""

    def get_variable_to_shape_map(self) -> Mapping[str, Sequence[int]]:
        """Return name -> shape."""

    def get_tensor(self, name: str) -> np.ndarray:
        """Return a variable's value."""


def open_checkpoint(prefix: Path) -> CheckpointReader:
    """Open a TensorFlow checkpoint.

    Raises:
        ImportError: TensorFlow is not installed.
        ValueError: TensorFlow cannot read the files.
    """
    try:
        import tensorflow
    except ImportError as error:
        raise ImportError(
            'Reading a TensorFlow checkpoint needs TensorFlow: pip install "lit_face[convert]" '
            "(in a separate environment, if it does not get along with your torch)."
        ) from error
    try:
        reader: CheckpointReader = tensorflow.train.load_checkpoint(str(prefix))
    except Exception as error:  # TensorFlow raises whatever its C++ meets
        raise ValueError(f"{prefix}: TensorFlow cannot read this checkpoint: {error}") from error
    return reader


def checkpoint_prefix(given: str | Path) -> Path:
    """Return the name that all files of a checkpoint share.

    Args:
        given: that name, one of the files, or a folder with one checkpoint.

    Raises:
        FileNotFoundError: an index or data file is missing.
    """
    path = Path(given)
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        if len(found) != 1:
            names = ", ".join(file.stem for file in found) or "none"
            raise FileNotFoundError(f"{path} should hold one checkpoint (*.index), found {names}.")
        path = found[0]
    for suffix in (".index", ".meta", ".data-00000-of-00001"):
        if path.name.endswith(suffix):
            path = path.with_name(path.name.removesuffix(suffix))
    index, data = (path.with_name(path.name + end) for end in (".index", ".data-00000-of-00001"))
    missing = [str(file) for file in (index, data) if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"A TensorFlow checkpoint is an .index and a .data file; missing: {', '.join(missing)}."
        )
    return path


def read_weights(reader: CheckpointReader, name: str) -> PRNNetwork:
    """Read the paper's network from a checkpoint; what the optimiser left is ignored.

    Args:
        reader: an open checkpoint.
        name: what errors call it.

    Raises:
        ValueError: lists missing, unknown and misshapen variables.
    """
    network = PRNNetwork()
    expected = expected_variables(network)
    found = {key: tuple(shape) for key, shape in reader.get_variable_to_shape_map().items()}
    wanted = {key for key in expected if not is_optimizer_slot(key)}
    lists = {
        "missing": sorted(wanted - set(found)),
        "unknown": sorted(k for k in set(found) - set(expected) if not is_optimizer_slot(k)),
        "of another shape": [
            f"{key} {found[key]} instead of {expected[key]}"
            for key in sorted(wanted & set(found))
            if found[key] != expected[key]
        ],
    }
    problems = [
        f"{len(names)} {what}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}"
        for what, names in lists.items()
        if names
    ]
    if problems:
        raise ValueError(f"{name} does not hold PRNet's weights; {'; '.join(problems)}.")
    load_tensorflow_weights(network, {key: reader.get_tensor(key) for key in sorted(wanted)})
    return network


def bfm_layout(root: str | Path) -> PositionMapReader:
    """Build the reader of PRNet's UV layout from a Basel Face Model instead (millimetres)."""
    from lit_face.morphable_models.bfm import load_bfm
    from lit_face.morphable_models.position_maps import PositionMaps

    model = load_bfm(root)
    return PositionMapReader.of_model(model, PositionMaps(model, PRNNetwork().uv_size))


def convert(
    checkpoint: str | Path,
    out: str | Path,
    layout: PositionMapReader,
    opener: Callable[[Path], CheckpointReader] = open_checkpoint,
) -> Path:
    """Write a portable folder with the weights of a TensorFlow checkpoint.

    Args:
        checkpoint: see `checkpoint_prefix`.
        out: the folder to write.
        layout: of the UV map.
        opener: opens the checkpoint.
    """
    from lit_face.io.portable_folder import write_portable

    prefix = checkpoint_prefix(checkpoint)
    predictor = PRNPredictor(read_weights(opener(prefix), str(prefix)), layout)
    record = {**_RECORD, "converted_from": prefix.name}
    return write_portable(out, predictor.config, predictor.state_dict(), record)


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m lit_face.methods.prn.import_tf", description=__doc__.splitlines()[0]
    )
    parser.add_argument("checkpoint", help="PRNet's 256_256_resfcn256_weight (or a file of it)")
    parser.add_argument("out", help="folder to write")
    layout = parser.add_mutually_exclusive_group(required=True)
    layout.add_argument("--uv-data", help="PRNet's folder Data/uv-data")
    layout.add_argument("--bfm", help="folder with BFM.mat and BFM_UV.mat, instead")
    given: Any = parser.parse_args(arguments)
    try:
        reader = read_prnet_layout(given.uv_data) if given.uv_data else bfm_layout(given.bfm)
        folder = convert(given.checkpoint, given.out, reader)
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"lit_face cannot convert: {error}\n")
        return 2
    sys.stdout.write(f"{folder} is ready: python reconstruct.py ckpt={folder} input=PHOTOS\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
