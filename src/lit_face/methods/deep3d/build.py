"""A `Deep3DFace` of a morphable model: leading components, regions, frame, UV map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lit_face.geometry.five_points import five_points, standard_points
from lit_face.geometry.uv import points_to_surface, texel_uv
from lit_face.methods.deep3d.face import CROP_MM, FOCAL, MM, DataAlignment, Deep3DFace
from lit_face.methods.deep3d.predictor import Deep3DPredictor
from lit_face.methods.deep3d.regressor import Deep3DRegressor
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.contour import contour_candidates


def deep3d_face(
    model: MorphableModel,
    map_size: int = 256,
    counts: Mapping[str, int] | None = None,
    alignment: DataAlignment = "five_points",
    margin: float = 1.6,
    focal: float = FOCAL,
    origin: Sequence[float] | None = None,
    light_unit: float = 1.0,
    translation_unit: float = 1.0,
    persistent: bool = True,
) -> Deep3DFace:
    """Take the leading components of a morphable model; fewer where it has fewer.

    Args:
        model: any.
        map_size: see `Deep3DFace`.
        counts: of identity, expression and albedo coefficients; None for Deep3D's 80, 64 and 80.
        alignment: see `Deep3DFace`; 'whole' is 'five_points'.
        margin: likewise.
        focal: likewise.
        origin: (3,) mm; None: with 'five_points' where Deep3D's mean face has it, relative to the
            five points; with 'box' the middle of the landmarks, as deep as the face's mean.
        light_unit: see `Deep3DFace`.
        translation_unit: likewise.
        persistent: likewise.
    """
    values = _values(
        model, map_size, {"identity": 80, "expression": 64, "albedo": 80, **(counts or {})}
    )
    points = model.mean[model.landmark_index]
    box = (points[:, :2].amax(0) - points[:, :2].amin(0)).mean()
    if alignment == "box":
        middle, side = _box_origin(model), box * margin
    else:
        middle, side = _five_point_origin(points), model.mean.new_tensor(CROP_MM)
        margin = round(CROP_MM / box.item(), 4)
    values["origin"] = middle if origin is None else middle.new_tensor(list(origin))
    values["distance"] = side * focal
    face = Deep3DFace(
        vertices=len(model.mean),
        faces=len(model.faces),
        identity=values["identity_basis"].shape[-1],
        expression=values["expression_basis"].shape[-1],
        albedo=values["albedo_basis"].shape[-1],
        contour=values["contour"].shape[1],
        map_size=map_size,
        alignment="five_points" if alignment == "whole" else alignment,
        margin=margin,
        focal=focal,
        light_unit=light_unit,
        translation_unit=translation_unit,
        persistent=persistent,
    )
    for name, value in values.items():
        getattr(face, name).copy_(value.detach())
    return face.to(model.mean.device)


def _values(model: MorphableModel, map_size: int, counts: Mapping[str, int]) -> dict[str, Tensor]:
    texels = texel_uv(torch.arange(map_size**2, device=model.uv.device), map_size)
    index, weights = points_to_surface(texels, model.uv, model.map_faces)
    seen = _seen(model)
    return {
        "mean": model.mean,
        "identity_basis": model.identity_basis[..., : counts["identity"]],
        "expression_basis": model.expression_basis[..., : counts["expression"]],
        "albedo_mean": model.albedo_mean,
        "albedo_basis": model.albedo_basis[..., : counts["albedo"]],
        "faces": model.faces,
        "uv": model.uv,
        "landmark_index": model.landmark_index,
        "contour": contour_candidates(model),
        "front": (seen[model.faces] > 0.5).all(dim=1).float(),
        "skin": _skin(model) * seen,
        "map_vertices": index,
        "map_weights": weights,
    }


def _five_point_origin(points: Tensor) -> Tensor:
    """Return (3,) mm where Deep3D's origin lies among landmarks (68,3) of a mean face."""
    five = five_points(points)
    return five.mean(0) - MM * standard_points(five).mean(0)


def _box_origin(model: MorphableModel) -> Tensor:
    """Return (3,) mm, the middle of the mean face's landmarks, as deep as its face's mean."""
    points = model.mean[model.landmark_index][:, :2]
    weight = model.regions["face"].to(model.mean)[:, None]
    deep = (model.mean * weight).sum(0)[2:] / weight.sum()
    return torch.cat([(points.amin(0) + points.amax(0)) / 2, deep])


def _seen(model: MorphableModel) -> Tensor:
    """Return (V,) in [0,1], what photos show of a face."""
    regions = model.regions
    nothing = torch.zeros_like(model.mean[:, 0])
    face = torch.maximum(regions["face"].float(), regions.get("eyeballs", nothing))
    return face * (1 - regions.get("mouth_interior", nothing))


def _skin(model: MorphableModel) -> Tensor:
    """Return (V,) in [0,1], what has the color of skin."""
    regions = model.regions
    skin = regions.get("skin", torch.ones_like(model.mean[:, 0])).float()
    for name in ("eyes", "eyeballs", "lips", "brows"):
        if name in regions:
            skin = skin * (1 - regions[name])
    return skin


def deep3d_predictor(
    morphable_model: MorphableModel,
    network: Deep3DRegressor,
    image_size: int,
    follow_contour: bool = False,
    alignment: DataAlignment = "five_points",
    map_size: int = 256,
    margin: float = 1.6,
    focal: float = FOCAL,
    light_unit: float = 1.0,
    translation_unit: float = 1.0,
) -> Deep3DPredictor:
    """Build a predictor for other methods to start from; arguments as of `Deep3DModule`.

    Its face's bases stay out of checkpoints.

    Raises:
        ValueError: the network comes from a run with other options than these.
    """
    options = {
        "image_size": image_size,
        "follow_contour": follow_contour,
        "focal": focal,
        "light_unit": light_unit,
        "translation_unit": translation_unit,
    }
    trained = network.trained_with
    wrong = [f"{k}={trained[k]}" for k, v in options.items() if trained.get(k, v) != v]
    if wrong:
        raise ValueError(
            f"The weights of the coarse regressor were trained with {', '.join(wrong)}; set these "
            "options of it likewise."
        )
    if not trained.get("linear_light", True):
        raise ValueError(
            "The weights of the coarse regressor were trained with linear_light=false, but here "
            "light multiplies linear colors; train deep3d with method.linear_light=true."
        )
    face = deep3d_face(
        morphable_model,
        map_size,
        network.options,
        alignment,
        margin,
        focal,
        light_unit=light_unit,
        translation_unit=translation_unit,
        persistent=False,
    )
    return Deep3DPredictor(network, face, image_size, follow_contour)
