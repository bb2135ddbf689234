"""What the entry points call. Nothing heavy is imported before a task starts."""

from __future__ import annotations

import sys
from pathlib import Path

from lit_face.cli.start import start

_TRAIN_EXAMPLES = """
python train.py                                      PRN on the built-in miniature, on any machine
python train.py method=prn trainer.devices=4         the paper's network on four GPUs
python train.py data=w300lp data.root=/data/300W_LP  your own copy of 300W-LP
python train.py -m method.optimizer.lr=1e-3,1e-4     a sweep, one run after the other
python train.py resume=runs/latest                   go on where a run stopped
"""

_EVALUATE_EXAMPLES = """
python evaluate.py ckpt=runs/latest                        the newest run on AFLW2000-3D
python evaluate.py ckpt=best.ckpt benchmark=aflw2000       a checkpoint
python evaluate.py ckpt=best.ckpt benchmark.root=/data/AFLW2000
"""

_EXPORT_EXAMPLES = """
python export.py ckpt=runs/latest out=prn                 a portable folder: safetensors and config
python export.py ckpt=runs/latest out=prn.onnx            one ONNX file, checked in onnxruntime
python export.py ckpt=prn out=prn.onnx                    from a portable folder
python export.py ckpt=best.ckpt out=prn licence=MIT notice=NOTICE.txt
"""

_RECONSTRUCT_EXAMPLES = """
python reconstruct.py input=photos out=faces                          a folder of photos
python reconstruct.py input=me.jpg out=faces outputs=[glb,depth]      chosen files
python reconstruct.py ckpt=runs/latest input=photos out=faces         with your own training
python reconstruct.py 'input=photos/*.png' out=faces pose=frontal texture_size=1024
python reconstruct.py input=clip.mp4 out=faces                        a video, smoothed over time
python reconstruct.py input=photos out=faces finder=file finder.path=boxes.csv
python reconstruct.py method=uv_implicit --help                       one subject, many cameras
"""

_MULTIVIEW = "method=uv_implicit"
_MULTIVIEW_EXAMPLES = """
python reconstruct.py method=uv_implicit input=SUBJECT out=face             photos and params.json
python reconstruct.py method=uv_implicit input=SUBJECT out=face views=5 displacement=null
python reconstruct.py method=uv_implicit input=SUBJECT out=face ckpt=runs/latest-uv_implicit
"""

# Values that are paths may hold any character; quoted, Hydra takes them as they are.
_PATH_KEYS = ("ckpt", "displacement", "input", "out", "scan", "finder.path")

_EDIT_TEXTURE_EXAMPLES = """
python edit_texture.py input=me.jpg reference=you.jpg out=edited            the whole face
python edit_texture.py input=photos reference=you.jpg 'region=[eyes,mouth]' out=edited
python edit_texture.py input=me.jpg texture=paint.png region=mask.png out=edited
"""


def train() -> None:
    """Train a method; see `train.py --help`."""
    start("train", "lit_face.cli.training", _TRAIN_EXAMPLES)


def evaluate() -> None:
    """Evaluate a checkpoint on a benchmark; see `evaluate.py --help`."""
    start("evaluate", "lit_face.cli.evaluation", _EVALUATE_EXAMPLES)


def export() -> None:
    """Write a checkpoint in a portable form; see `export.py --help`."""
    start("export", "lit_face.cli.export", _EXPORT_EXAMPLES)


def reconstruct() -> None:
    """Reconstruct the faces of photos; see `reconstruct.py --help`."""
    for argument in sys.argv[1:]:  # before Hydra makes the folder
        if argument.startswith("out=") and Path(argument[4:]).is_file():
            sys.stderr.write(f"lit_face cannot start:\n  {argument} is a file; name a folder.\n")
            sys.exit(2)
    sys.argv[1:] = [quoted_path(argument) for argument in sys.argv[1:]]
    if _MULTIVIEW in sys.argv:  # its options are others
        sys.argv.remove(_MULTIVIEW)
        script = f"reconstruct.py {_MULTIVIEW}"
        start("reconstruct_views", "lit_face.cli.multiview", _MULTIVIEW_EXAMPLES, script)
        return
    start("reconstruct", "lit_face.cli.reconstruction", _RECONSTRUCT_EXAMPLES)


def quoted_path(argument: str) -> str:
    """Quote the value of a `key=path` argument for Hydra, whose grammar knows few characters."""
    key, equals, value = argument.partition("=")
    if not equals or key not in _PATH_KEYS or value[:1] in ("'", '"', "") or value == "null":
        return argument
    escaped = value.replace("\\'", "\\\\\\'").replace("'", "\\'") if "'" in value else value
    return f"{key}='{escaped}'"


def edit_texture() -> None:
    """Edit faces in photos; see `edit_texture.py --help`."""
    start("edit_texture", "lit_face.cli.texture_editing", _EDIT_TEXTURE_EXAMPLES)
