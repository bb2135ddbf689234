"""The trained parts of the chain from photos to a mesh with relief, and its options."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from lit_face.data.facescape_preparation import LONG_SIDE, PreparationOptions
from lit_face.data.miniature_facescape import SIZES
from lit_face.data.miniature_facescape_processed import UV_SIZE
from lit_face.inference.finders.base import FaceFinder
from lit_face.inference.loading import choose_device, load_method
from lit_face.inference.records import digest_of_path
from lit_face.io.checkpoints import find_checkpoint
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.facescape.template import bilinear_of

_DEFAULT_UV = 256  # side of the maps of FaceScape's processed folders, texels
_DEFAULT_VIEWS = 10
_DEFAULT_TEXTURE = 512
# Of options: least, most, whether it is a whole number.
_RANGES = {
    "views": (2, 10_000, True),
    "long_side": (32, 32_768, True),
    "memory": (1.0, 1e9, False),
    "texture_size": (32, 16_384, True),
    "subdivisions": (0, 5, True),
    "disagreement": (1.0, 1e9, False),
}


@dataclass(frozen=True)
class ChainOptions:
    """What a user chooses.

    Attributes:
        views: how many; None as in training.
        long_side: pixels of the photos; None as in training.
        memory: MiB for points in work.
        texture_size: side of the texture, texels.
        subdivisions: of triangles before relief is added.
        disagreement: views above it are named, see `ImplicitSurface.agreement`.
        device: 'auto', 'cpu', 'cuda' or 'mps'.
    """

    views: int | None = None
    long_side: int | None = None
    memory: float = 512.0
    texture_size: int = 1024
    subdivisions: int = 2
    disagreement: float = 1.5
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, (least, most, is_whole) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name in ("views", "long_side"):
                continue
            kind = int if is_whole else (int, float)
            fits = isinstance(value, kind) and not isinstance(value, bool)
            if not fits or not least <= value <= most:  # NaN too
                what = "a whole number" if is_whole else "a number"
                raise ValueError(f"{name} should be {what}, {least:g} to {most:g}; found {value}.")


class MultiviewChain:
    """Trained methods and what is known of the data that they were trained with.

    Args:
        method: of uv_regularize or uv_implicit.
        data: options of its training's data.
        weights: digest of the method's checkpoint.
        model: of base meshes.
        options: see `ChainOptions`.
        relief: texture (B,3,T,T) to displacement (B,1,T,T) in mm; None for none.
        relief_size: T of its training.
        relief_weights: digest of its checkpoint.
        finder: of landmarks, for subjects that have none.
    """

    def __init__(
        self,
        method: Any,
        data: dict[str, Any],
        weights: str,
        model: MorphableModel,
        options: ChainOptions,
        relief: nn.Module | None = None,
        relief_size: int = _DEFAULT_TEXTURE,
        relief_weights: str = "",
        finder: FaceFinder | None = None,
    ) -> None:
        self.device = choose_device(options.device)
        self.method = method.eval().to(self.device)
        self.method.implicit.memory = options.memory
        self.data, self.weights, self.options = data, weights, options
        self.bilinear = bilinear_of(model)
        self.relief = None if relief is None else relief.eval().to(self.device)
        self.relief_size, self.relief_weights = relief_size, relief_weights
        self.finder = finder

    @classmethod
    def load(
        cls,
        ckpt: str,
        displacement: str | None,
        model: MorphableModel,
        options: ChainOptions,
        trusted: tuple[str, ...] = (),
    ) -> MultiviewChain:
        """Load the checkpoints of a chain.

        Args:
            ckpt: a run or checkpoint of uv_regularize, or of uv_implicit.
            displacement: of displacement; None for no relief.
            model: of base meshes.
            options: see `ChainOptions`.
            trusted: further packages that their configs may name.

        Raises:
            FileNotFoundError: a run is not there; says which training makes it.
            ValueError: the run is of another method.
        """
        file = _checkpoint(ckpt, "ckpt", "uv_regularize")
        method, stored = load_method(file, trusted)
        if not hasattr(method, "surfaces"):
            raise ValueError(
                f"ckpt={ckpt} is of {type(method).__name__}; give a run of uv_regularize, or of "
                "uv_implicit."
            )
        weights, data = digest_of_path(file), stored["data"]
        if displacement is None:
            return cls(method, data, weights, model, options)
        relief = load_relief(displacement, "displacement", trusted)
        return cls(method, data, weights, model, options, *relief)

    @cached_property
    def preparation(self) -> PreparationOptions:
        """How photos are prepared: as those that the method was trained with."""
        side = LONG_SIDE
        if self.data.get("root") is None:
            side = max(SIZES[self.data["miniature"]].photo)
        views = self.options.views or self.data.get("views") or _DEFAULT_VIEWS
        return PreparationOptions(self.options.long_side or side, views)

    @property
    def uv_size(self) -> int:
        """Side of the UV maps, texels."""
        usual = _DEFAULT_UV if self.data.get("root") else UV_SIZE[self.data["miniature"]]
        return int(self.data.get("uv_size") or usual)


def load_relief(
    given: str, option: str, trusted: tuple[str, ...] = ()
) -> tuple[nn.Module, int, str]:
    """Load a run of displacement.

    Args:
        given: a run's folder or a checkpoint.
        option: that names it, for messages.
        trusted: further packages that its config may name.

    Returns:
        Its predictor, the side of the textures that it was trained with, the file's digest.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is of another method.
    """
    file = _checkpoint(given, option, "displacement")
    method, stored = load_method(file, trusted)
    predictor = getattr(method, "predictor", None)
    if not isinstance(predictor, nn.Module) or not hasattr(predictor, "network_mm"):
        raise ValueError(
            f"{option}={given} is of {type(method).__name__}; give a run of displacement, or null."
        )
    return predictor.eval(), int(stored["data"]["image_size"]), digest_of_path(file)


def _checkpoint(given: str, option: str, method: str) -> Path:
    try:
        return find_checkpoint(given, prefer="best")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{option}: {error} Train it first (python train.py method={method} "
            f"experiment={method}_mini), or give another run."
        ) from None
