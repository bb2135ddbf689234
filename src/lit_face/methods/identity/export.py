"""Write the network of a training as a file of weights that `conf/embedder` takes.

`python -m lit_face.methods.identity.export RUN FILE.safetensors` writes 16-bit floats and, beside
them, FILE.json: how they were made, what they reached, and the file's sha256.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lit_face.io.checkpoints import find_checkpoint, read_checkpoint
from lit_face.io.files import atomic_write

_PREFIX = "network."
_REPORTED = ("val/auc", "val/auc_skin", "val/auc_color", "val/accuracy")
_DATA = ("_target_", "root", "miniature_images", "image_size", "batch_size")


def export(run: str | Path, file: str | Path) -> Path:
    """Write the network of a run as its training left it.

    Args:
        run: folder of a run of method=identity, or a checkpoint.
        file: .safetensors to write.

    Returns:
        The file.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: it is of another method, or `file` has another suffix.
    """
    from safetensors.torch import save

    from lit_face import __version__

    target = Path(file)
    if target.suffix != ".safetensors":
        raise ValueError(f"{target} should end in .safetensors.")
    checkpoint = find_checkpoint(run, prefer="last")
    content = read_checkpoint(checkpoint)
    config: dict[str, Any] = content["lit_face"]["config"]
    method = dict(config["method"])
    if not str(method["_target_"]).startswith("lit_face.methods.identity."):
        raise ValueError(f"{checkpoint} is of {method['_target_']}, not of method=identity.")
    state = {
        name.removeprefix(_PREFIX): value.to(torch.float16).contiguous()
        for name, value in content["state_dict"].items()
        if name.startswith(_PREFIX)
    }
    data = save(state)
    record = {
        "lit_face": __version__,
        "embedder": {**method.pop("network"), "weights": target.name},
        "method": method,
        "data": {key: config["data"].get(key) for key in _DATA},
        "seed": config["seed"],
        "epochs": int(content["epoch"]) + 1,
        "reached": _reached(checkpoint),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    with atomic_write(target) as temporary:
        temporary.write_bytes(data)
    with atomic_write(target.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")
    return target


def _reached(checkpoint: Path) -> dict[str, float]:
    """Return what the run measured at last, where its metrics lie beside it."""
    file = checkpoint.parent.parent / "metrics.json"
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    return {key: round(found[key], 4) for key in _REPORTED if key in found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Export as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m lit_face.methods.identity.export", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", help="folder of a run of method=identity, or a checkpoint")
    parser.add_argument("file", help=".safetensors to write")
    given = parser.parse_args(arguments)
    try:
        file = export(given.run, given.file)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"lit_face cannot export: {error}\n")
        return 2
    sys.stdout.write(f"{file} is ready: embedder.weights={file}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
