"""The photometric fit: pose, then landmarks, then everything on the photo, then the offset map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.methods.flame_fit import losses, scene
from lit_face.methods.flame_fit.camera import project, rigid_fit
from lit_face.methods.flame_fit.descent import Descent, Objective, OptimizerName, Watch
from lit_face.methods.flame_fit.light import BANDS, FULL_LIGHT
from lit_face.methods.flame_fit.offset import albedo_of, offset_map
from lit_face.methods.flame_fit.pixels import Pixels
from lit_face.methods.flame_fit.scene import Head, Photos, Terms, Values

INNER = slice(17, 68)  # the jaw of 2D landmarks slides with the pose
SHAPE = ("identity", "expression", "joints", "rotation", "camera")
_LANDMARK_PACE = 3.0  # times the rates, while only landmarks count
STAGES = ("landmarks", "photo")
WEIGHTS = {
    "landmark": 2.0,
    "opening": 0.5,
    "photometric": 2.2,
    "identity": 6e-5,
    "expression": 6e-5,
    "joints": 1e-2,
    "texture": 1e-4,
    "light": 1.0,
    "range": 1.0,
}
RATES = {
    "identity": 0.03,
    "expression": 0.03,
    "joints": 0.01,
    "rotation": 0.01,
    "camera": 0.005,
    "texture": 0.03,
    "light": 0.03,
}


@dataclass(frozen=True)
class FitOptions:
    """How photos are fitted.

    Attributes:
        rigid_steps: on pose and camera, after the closed form.
        landmark_steps: on shape and pose, without the photo.
        steps: on everything but the offset, one number a level of the pyramid, the coarsest first.
        offset_steps: of the solver of the offset map; 0 leaves it out.
        offset_smooth: weight of differences of neighbouring texels, a pixel's being 1.
        offset_shrink: weight of the offset itself.
        light: 'rgb' has nine coefficients a channel, 'mono' nine for all.
        optimizer: 'adam', or 'lbfgs', which takes photos one by one (a step is an iteration).
        refresh: steps after which visibility and normals follow the face.
        outlier: color error (sRGB) at which a pixel counts half; None lets all count.
        normals_grad: shading moves the shape too.
        window: steps over which a photo is watched; 0 never stops one early.
        tolerance: relative change of the total over them that stops it.
        weights: of the terms, over `WEIGHTS`.
        rates: of the values, over `RATES`.
    """

    rigid_steps: int = 150
    landmark_steps: int = 300
    steps: tuple[int, ...] = (80, 60, 0)
    offset_steps: int = 30
    offset_smooth: float = 0.1
    offset_shrink: float = 0.05
    light: Literal["rgb", "mono"] = "rgb"
    optimizer: OptimizerName = "adam"
    refresh: int = 8
    outlier: float | None = None
    normals_grad: bool = False
    window: int = 50
    tolerance: float = 1e-4
    weights: Mapping[str, float] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)


class Fitted(NamedTuple):
    """Fitted values of a batch.

    Attributes:
        values: identity, expression, joints (B,J,3), rotation (B,3) axis-angle, camera (B,3,
            `camera.project`), texture, light (B,9,1 or 3), and `offset` (B,3,S,S) where fitted.
        start: the values after the rigid stage.
        failed: (B,) bool, photos whose losses were not finite; they keep their last values.
        trace: weighted terms and their total (B,steps) by name, and `stage`, of `STAGES`.
    """

    values: dict[str, Tensor]
    start: dict[str, Tensor]
    failed: Tensor
    trace: dict[str, Tensor]


@torch.enable_grad()
@fp32_region()
def fit_photos(
    head: Head,
    photos: Photos,
    options: FitOptions,
    joints: Sequence[str] = ("jaw",),
    watch: Watch | None = None,
) -> Fitted:
    """Fit a head to photos.

    Args:
        head: model and texture space.
        photos: of one size.
        options: how.
        joints: names of those that move.
        watch: called after every step with its number and the means of the losses by name.
    """
    if options.optimizer == "lbfgs" and len(photos.image) > 1:
        return _joined([fit_photos(head, one, options, joints, watch) for one in photos.singles()])
    start = start_values(head, photos, options)
    descent = Descent(
        {name: value.clone() for name, value in start.items()},
        WEIGHTS | dict(options.weights),
        RATES | dict(options.rates),
        options.window,
        options.tolerance,
        watch,
    )
    moves = joint_mask(head, joints, photos)

    def run(objective: Objective, free: Sequence[str], steps: int, stage: int) -> None:
        if options.optimizer == "lbfgs":
            block = options.refresh if stage else max(steps, 1)
            descent.lbfgs(objective, free, steps, stage, block)
        else:
            descent.adam(objective, free, steps, stage, 1.0 if stage else _LANDMARK_PACE)

    run(_OnLandmarks(head.at_landmarks(), photos, moves), SHAPE, options.landmark_steps, 0)
    for level, steps in enumerate(options.steps):
        if not steps:
            continue
        shrink = len(options.steps) - 1 - level
        coarse = photos.shrunk(photos.size // 2**shrink)
        smaller = head.halved(_halvings(head, coarse.size))
        objective = _OnPhoto(smaller, coarse, options, moves)
        run(objective, (*SHAPE, "texture", "light"), steps, 1)
    if options.offset_steps:
        descent.values["offset"] = _offset(head, photos, options, descent.values)
    return Fitted(descent.values, start, descent.failed, _stacked(descent.trace))


def start_values(head: Head, photos: Photos, options: FitOptions) -> dict[str, Tensor]:
    """Return the mean face in the pose of the rigid stage, under light that shades with 1."""
    model, count = head.model, len(photos.image)
    zeros = photos.image.new_zeros
    light = zeros(count, BANDS, 1 if options.light == "mono" else 3)
    light[:, 0] = FULL_LIGHT
    shape = {
        "identity": zeros(count, model.identity_size),
        "expression": zeros(count, model.expression_size),
        "joints": zeros(count, len(model.joint_names), 3),
    }
    with torch.no_grad():
        points = model.landmarks(head.vertices(shape))[:, INNER]
    pose = rigid_fit(
        points, photos.landmarks[:, INNER], options.rigid_steps, photos.confidence[:, INNER]
    )
    return shape | pose | {"texture": zeros(count, head.textures.components), "light": light}


def joint_mask(head: Head, joints: Sequence[str], photos: Photos) -> Tensor:
    """Return (J,1), 1 for the joints that move."""
    return photos.image.new_tensor([float(name in joints) for name in head.model.joint_names])[
        :, None
    ]


class _OnLandmarks:
    """Terms of landmarks and shape alone."""

    def __init__(self, head: Head, photos: Photos, moves: Tensor) -> None:
        self.head, self.photos, self.moves = head, photos, moves

    def __call__(self, values: Values, step: int) -> Terms:
        values = {**values, "joints": values["joints"] * self.moves}
        return scene.shape_terms(self.head, self.photos, values)[0]


class _OnPhoto:
    """Terms of everything but the offset; pixels and normals are kept for some steps."""

    def __init__(self, head: Head, photos: Photos, options: FitOptions, moves: Tensor) -> None:
        self.head, self.photos, self.options, self.moves = head, photos, options, moves
        self._pixels: Pixels
        self._light: Tensor

    def __call__(self, values: Values, step: int) -> Terms:
        head, options = self.head, self.options
        values = {**values, "joints": values["joints"] * self.moves}
        terms, vertices, ndc = scene.shape_terms(head, self.photos, values)
        fresh = step % options.refresh == 0
        if fresh:
            self._pixels = scene.find_pixels(head, self.photos, ndc)
        pixels = self._pixels
        weights = scene.pixel_weights(pixels, ndc)
        if fresh or options.normals_grad:
            with torch.set_grad_enabled(options.normals_grad):
                self._light = scene.pixel_light(head, values, vertices, pixels, weights)
        uv = scene.pixel_uv(head, pixels, weights)
        albedo = scene.read_texture(head.texture(values), uv)
        difference = scene.shaded(albedo, (self._light @ values["light"]).mT) - pixels.color
        if fresh and options.outlier is not None:
            pixels = self._pixels = _trusted(pixels, difference.detach(), options.outlier)
        return terms | {
            "photometric": losses.photometric_term(difference, pixels.weight),
            "range": losses.out_of_range(albedo, pixels.weight),
            "texture": losses.half_squares(values["texture"]),
            "light": losses.grey_light(values["light"]),
        }


@torch.no_grad()
def _offset(head: Head, photos: Photos, options: FitOptions, values: Values) -> Tensor:
    """Return the offset map (B,3,S,S) that brings the texture to the photo under the light."""
    vertices = head.vertices(values)
    rotation = axis_angle_to_matrix(values["rotation"])
    ndc = project(vertices, rotation, values["camera"])
    pixels = scene.find_pixels(head, photos, ndc)
    weights = scene.pixel_weights(pixels, ndc)
    shading = (scene.pixel_light(head, values, vertices, pixels, weights) @ values["light"]).mT
    uv = scene.pixel_uv(head, pixels, weights)
    albedo = scene.read_texture(head.texture(values), uv)
    if options.outlier is not None:
        pixels = _trusted(pixels, scene.shaded(albedo, shading) - pixels.color, options.outlier)
    difference = albedo_of(pixels.color, shading) - albedo
    return offset_map(
        difference,
        pixels.weight,
        uv,
        head.textures.size,
        options.offset_smooth,
        options.offset_shrink,
        options.offset_steps,
    )


def _trusted(pixels: Pixels, difference: Tensor, outlier: float) -> Pixels:
    """Return pixels that count less where the photo is far from the face."""
    error = difference.square().mean(1).sqrt()
    return pixels._replace(weight=pixels.weight / (1 + (error / outlier).square()))


def _halvings(head: Head, size: int) -> int:
    """Return how often a texture is halved for pictures of side `size`: half as wide as they."""
    times = 0
    while head.textures.size >> times > size // 2 and not head.textures.size % 2 ** (times + 1):
        times += 1
    return times


def _joined(fits: list[Fitted]) -> Fitted:
    """Return single fits as one batch; a trace that ended early keeps its last row."""
    rows = max((v.shape[1] for one in fits for v in one.trace.values()), default=0)

    def filled(trace: dict[str, Tensor], name: str) -> Tensor:
        value = trace[name]
        return torch.cat([value, value[:, -1:].expand(-1, rows - value.shape[1])], 1)

    return Fitted(
        {name: torch.cat([one.values[name] for one in fits]) for name in fits[0].values},
        {name: torch.cat([one.start[name] for one in fits]) for name in fits[0].start},
        torch.cat([one.failed for one in fits]),
        {name: torch.cat([filled(one.trace, name) for one in fits]) for name in fits[0].trace},
    )


def _stacked(rows: list[Terms]) -> dict[str, Tensor]:
    """Return (B,steps) by name; a term that a stage lacks is 0 there."""
    names = dict.fromkeys(name for row in rows for name in row)
    if not rows:
        return {}
    zero = torch.zeros_like(rows[0]["total"])
    return {name: torch.stack([row.get(name, zero) for row in rows], 1) for name in names}
