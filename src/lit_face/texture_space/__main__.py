"""Build a texture space from fitted photos and a trained completion network.

    python reconstruct.py method=flame_fit finder=face_alignment input=photos out=fits outputs=[uv]
    python train.py method=texture_completion data.root=fits name=completion
    python -m lit_face.texture_space fits --ckpt runs/completion --out space

Maps that are completed already are not completed again; see docs/texture_space.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_face.texture_space.build import Options, build, load_model
from lit_face.texture_space.quality import Limits

log = logging.getLogger("lit_face")


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser; defaults are those of `Options` and `Limits`."""
    lines = (__doc__ or "").splitlines()
    result = argparse.ArgumentParser(prog="python -m lit_face.texture_space", description=lines[0])
    add, usual, most = result.add_argument, Options(), Limits()
    add("fits", type=Path, help="folder of fits with *uv.npz at any depth")
    add("--ckpt", type=Path, required=True, help="run or checkpoint of texture_completion")
    add("--out", type=Path, required=True, help="folder to write")
    add("--size", type=int, default=usual.size, help="side of the maps, texels (%(default)s)")
    add("--components", type=int, default=usual.components, help="at most (%(default)s)")
    add("--method", choices=("incremental", "exact"), default=usual.method,
        help="incremental: memory does not grow with the photos (default)")  # fmt: skip
    add("--batch", type=int, default=usual.batch, help="maps added at once (%(default)s)")
    add("--no-pad", dest="pad", action="store_false",
        help="as many columns as components, instead of zeros up to --components")  # fmt: skip
    add("--held-out", type=float, default=usual.held_out,
        help="share of the maps on which the report measures (%(default)s)")  # fmt: skip
    add("--min-confidence", type=float, default=usual.min_confidence,
        help="texels seen more slanted (cosine) are completed (%(default)s)")  # fmt: skip
    add("--model", help="head model of the UV layout, as morphable_model= takes it "
        "(that of the fits)")  # fmt: skip
    add("--model-root", help="its folder")
    limits = result.add_argument_group("fits that are left out (dropped.csv)")
    limits.add_argument("--max-landmarks", type=float, default=most.landmarks,
                        help="error, share of the face's box (%(default)s)")  # fmt: skip
    limits.add_argument("--max-photo", type=float, default=most.photo,
                        help="photometric error on the mask (%(default)s)")  # fmt: skip
    limits.add_argument("--max-yaw", type=float, default=most.yaw,
                        help="degrees (%(default)s)")  # fmt: skip
    limits.add_argument("--min-visible", type=float, default=most.visible,
                        help="share of the map (%(default)s)")  # fmt: skip
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Build as the command line says; return the exit status."""
    given: Any = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    log.setLevel(logging.INFO)
    options = Options(
        given.size, given.components, given.method, given.batch, given.pad, given.held_out,
        given.min_confidence,
    )  # fmt: skip
    limits = Limits(given.max_landmarks, given.max_photo, given.max_yaw, given.min_visible)
    try:
        check(options)
        model = load_model(given.model, given.model_root, given.fits)
        path = build(given.fits, given.ckpt, given.out, model, options, limits)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"lit_face cannot build the texture space: {error}\n")
        return 2
    sys.stdout.write(
        f"{path} is ready: fit with it by texture_space=file texture_space.path={path}; "
        f"{path.parent / 'report'} shows what it holds\n"
    )
    return 0


def check(options: Options) -> None:
    """Refuse options that cannot work.

    Raises:
        ValueError: which option, and what it may be.
    """
    if options.size < 8:
        raise ValueError(f"--size should be at least 8 texels, found {options.size}.")
    if options.components < 1:
        raise ValueError(f"--components should be at least 1, found {options.components}.")
    if options.batch < 1:
        raise ValueError(f"--batch should be at least 1, found {options.batch}.")
    if not 0 <= options.held_out < 1:
        raise ValueError(f"--held-out should be a share below 1, found {options.held_out}.")


if __name__ == "__main__":
    sys.exit(main())
