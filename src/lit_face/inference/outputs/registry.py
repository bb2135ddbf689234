"""The names of `outputs=[...]` and the functions behind them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

from lit_face.inference.outputs.depth import write_depth
from lit_face.inference.outputs.export import Export
from lit_face.inference.outputs.fitted import write_parameters, write_trace, write_uv
from lit_face.inference.outputs.meshes import write_glb, write_obj, write_ply, write_texture
from lit_face.inference.outputs.overlay import write_overlay
from lit_face.inference.outputs.points import write_landmarks, write_points, write_pose
from lit_face.inference.outputs.refined import has_colors, write_comparison, write_refined
from lit_face.inference.outputs.reflectance import (
    write_light,
    write_maps,
    write_relit,
    write_reposed,
    write_strip,
)
from lit_face.rendering.scene import can_be_rendered

OUTPUTS: dict[str, Callable[[Export, Path], None]] = {
    "obj": write_obj,
    "ply": write_ply,
    "glb": write_glb,
    "texture": write_texture,
    "landmarks": write_landmarks,
    "points": write_points,
    "pose": write_pose,
    "depth": write_depth,
    "maps": write_maps,
    "light": write_light,
    "strip": write_strip,
    "relit": write_relit,
    "reposed": write_reposed,
    "parameters": write_parameters,
    "trace": write_trace,
    "uv": write_uv,
    "refined": write_refined,
    "comparison": write_comparison,
}
AUTO = ("obj", "landmarks", "pose", "overlay")
AUTO_REFLECTANCE = ("glb", "maps", "light", "strip", "relit", "reposed")  # where the method has it
AUTO_FITTED = ("parameters", "trace", "uv")  # of methods that fit each photo
AUTO_COLORED = ("refined", "comparison")  # of methods that give vertices colours
PHOTO_OUTPUTS: dict[str, Callable[[Sequence[Export], Path], None]] = {"overlay": write_overlay}


def check_outputs(names: Sequence[str]) -> list[str]:
    """Return the names, checked; 'auto' stands for what suits the method.

    Raises:
        ValueError: no list, or a name that there is not, with the closest that there is.
    """
    known = [*OUTPUTS, *PHOTO_OUTPUTS, "auto"]
    if isinstance(names, str):
        raise ValueError(f"outputs should be a list: outputs=[{names}].")
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            raise ValueError(f"outputs: there is no '{name}'; {hint}There are: {', '.join(known)}.")
    return list(names)


def write_photo(exports: Sequence[Export], names: Sequence[str], folder: Path) -> list[str]:
    """Write the outputs of all faces of one photo; return each face's folder below `folder`.

    One face's files lie in `folder` itself, those of several in face1, face2, ...
    """
    places = []
    names = _expanded(names, exports[0])
    for number, export in enumerate(exports, 1):
        place = "" if len(exports) == 1 else f"face{number}"
        (folder / place).mkdir(parents=True, exist_ok=True)
        for name in names:
            if name in OUTPUTS:
                OUTPUTS[name](export, folder / place)
        places.append(place)
    for name in names:
        if name in PHOTO_OUTPUTS:
            PHOTO_OUTPUTS[name](exports, folder)
    return places


def _expanded(names: Sequence[str], export: Export) -> list[str]:
    """Replace 'auto', and drop doubles."""
    auto = list(AUTO)
    if can_be_rendered(export.face.reconstruction):
        auto += AUTO_REFLECTANCE
    if export.face.trace:
        auto += AUTO_FITTED
    if has_colors(export.face.reconstruction):
        auto += AUTO_COLORED
    found = [one for name in names for one in (auto if name == "auto" else [name])]
    return list(dict.fromkeys(found))
