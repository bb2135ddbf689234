"""Load a morphable model by name."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import Any

from lit_face.morphable_models.base import MorphableModel

# Imported on use: a format's reader may need packages that others do not.
LOADERS = {
    "procedural": "lit_face.morphable_models.procedural:procedural_head",
    "bfm": "lit_face.morphable_models.bfm:load_bfm",
}


def load_morphable_model(name: str, **options: Any) -> MorphableModel:
    """Load the model `name` with the options of its loader (`root`, for example).

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    if name not in LOADERS:
        close = get_close_matches(name, LOADERS, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise ValueError(f"No morphable model '{name}'; known: {', '.join(sorted(LOADERS))}.{hint}")
    module, function = LOADERS[name].split(":")
    model: MorphableModel = getattr(import_module(module), function)(**options)
    return model
