"""The texture editing task: photos in, photos with edited faces out."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_face.cli.start import user_errors
from lit_face.config import instantiate

_QUALITY = 95  # of JPEG files
_KEPT = (".jpg", ".jpeg", ".png")  # formats of the results; others become PNG


def config_from(overrides: Sequence[str]) -> None:
    """Nothing: the config is composed."""
    return


def run(config: dict[str, Any], folder: Path) -> None:
    """Edit as the plain config says; exit with 1 if a photo had a problem."""
    with user_errors():
        from lit_face.inference.editing import region_mask
        from lit_face.inference.inputs import find_photos

        photos = find_photos(config["input"], folder)
        model = _model(config)
        source = _source(config, model)
        region = region_mask(config["region"], getattr(model.predictor, "regions", {}))
    problems = 0
    for photo in photos:
        try:
            target = folder / Path(photo.name)
            if target.suffix.lower() not in _KEPT:
                target = target.with_suffix(".png")
            _edit(model, photo.path, source, region, config["blend"], target)
        except (OSError, ValueError) as error:
            problems += 1
            sys.stderr.write(f"{photo.name}: {' '.join(str(error).split())}\n")
    failed = f"; {problems} with a problem" * bool(problems)
    sys.stdout.write(f"{len(photos) - problems} of {len(photos)} photos edited{failed}: {folder}\n")
    if problems:
        sys.exit(1)


def _model(config: Mapping[str, Any]) -> Any:
    from lit_face.inference.loading import load_predictor
    from lit_face.inference.model import FaceModel

    trusted = tuple(config.get("trusted_modules") or ())
    finder = instantiate(config["finder"], trusted_modules=trusted)
    return FaceModel(load_predictor(config["ckpt"], trusted), finder, config["device"])


def _source(config: Mapping[str, Any], model: Any) -> Any:
    """Return the texture, or the other photo and its largest face."""
    from lit_face.inference.editing import Reference
    from lit_face.io.photos import read_photo

    if (config["reference"] is None) == (config["texture"] is None):
        raise ValueError(
            "Give either reference=PHOTO, whose face is taken, or texture=PICTURE on the UV layout."
        )
    if config["texture"] is not None:
        return read_photo(config["texture"])
    photo, faces = _faces(model, Path(config["reference"]))
    if not faces:
        raise ValueError(f"reference={config['reference']}: no face found.")
    return Reference(photo, faces[0])


def _faces(model: Any, path: Path) -> tuple[Any, list[Any]]:
    """Return a photo and its faces, the largest first."""
    from lit_face.io.photos import read_photo

    photo = read_photo(path)
    return photo, model.reconstruct_found([photo], [model.finder(photo, path)])[0]


def _edit(model: Any, path: Path, source: Any, region: Any, blend: Any, target: Path) -> None:
    from lit_face.inference.editing import edit_face
    from lit_face.io.images import write_image

    photo, faces = _faces(model, path)
    if not faces:
        raise ValueError("no face found")
    for face in faces:
        photo = edit_face(photo, face, source, region, blend)
    write_image(target, photo, _QUALITY)
