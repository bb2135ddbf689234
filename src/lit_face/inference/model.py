"""A trained model in use: photos in, faces out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lit_face.geometry.five_points import five_points
from lit_face.geometry.pose import camera_angles
from lit_face.geometry.similarity2d import apply_similarity
from lit_face.inference.crops import (
    crop_matrices,
    cut_out,
    cut_out_mask,
    five_point_matrices,
    to_photo,
    visibility_in_photos,
)
from lit_face.inference.face import Face, one_of, warnings_of
from lit_face.inference.finders.base import Detection, FaceFinder, Picture
from lit_face.inference.loading import choose_device
from lit_face.io.photos import as_photo, read_photo
from lit_face.types import Reconstruction

Image = str | Path | NDArray[Any] | Tensor
Boxes = Sequence[Any]
Precision = Literal["float32", "bfloat16"]


_NO_LANDMARKS = (
    "Fitting a face without a network needs its 68 landmarks: take finder=file or finder=folder "
    "with landmarks, finder=face_alignment or finder=mediapipe."
)


class Refined(Protocol):
    """Refined faces in pixels of their crops, with errors (B,) by name at the start and the end."""

    @property
    def face(self) -> Reconstruction: ...  # noqa: D102
    @property
    def before(self) -> dict[str, Tensor]: ...  # noqa: D102
    @property
    def after(self) -> dict[str, Tensor]: ...  # noqa: D102


class _Crops(NamedTuple):
    """Crops (B,3,S,S) and, for each, photo to crop (B,3,3)."""

    images: Tensor
    matrices: Tensor


class FaceModel:
    """Finds faces in photos and reconstructs them.

    Args:
        predictor: crops (B,3,S,S) in [0,1] to a Reconstruction in their pixels; with `image_size`
            (S) and `margin` (side of the crop over the size of the landmarks' box). One with
            `takes_skin_mask` gets the finder's masks (B,1,S,S) besides, where it has them;
            `alignment` 'five_points' and `standard_points` (5,3) gets Deep3D's crop instead
            (`lit_face.geometry.five_points`) where points are known: the finder's, or after a
            first pass by the box the network's own.
        finder: finds faces; None is OpenCV's cascades.
        device: 'cpu', 'cuda', 'mps', or 'auto' for what is there.
        passes: 2 crops a second time, around the landmarks that the first pass found; 1 trusts the
            finder's boxes.
        precision: of the network; geometry is float32 always.
        compile_network: compile it; the first batch then takes a minute.
        refinement: optimises every batch further, for predictors with `refine(images, landmarks,
            refinement, are_detected, skin_mask)`. Predictors with `starts_from_landmarks` have no
            other way to a face.

    Raises:
        ValueError: the device is not there, an option is none of the above, or the predictor
            cannot be refined.
    """

    def __init__(
        self,
        predictor: nn.Module,
        finder: FaceFinder | None = None,
        device: str = "auto",
        passes: int = 2,
        precision: Precision = "float32",
        compile_network: bool = False,
        refinement: Any | None = None,
    ) -> None:
        if passes not in (1, 2):
            raise ValueError(f"passes should be 1 or 2, found {passes!r}.")
        if precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision should be 'float32' or 'bfloat16', found {precision!r}.")
        self.device = torch.device(choose_device(device))
        fused = getattr(predictor, "fused", lambda: predictor)  # a quicker copy, where there is one
        self.predictor = fused().eval().to(self.device)
        self.passes, self.precision = passes, precision
        _check_alignment(self.predictor)
        if refinement is not None and not hasattr(self.predictor, "refine"):
            raise ValueError(
                f"refine: {type(predictor).__name__} cannot be refined; take a checkpoint of a "
                "method that can (sh_brdf), init=landmarks, or refine=0."
            )
        if refinement is None and getattr(self.predictor, "needs_refinement", False):
            raise ValueError(f"{type(predictor).__name__} has no network and needs a refinement.")
        self.refinement = refinement
        starts_from_landmarks = getattr(self.predictor, "starts_from_landmarks", False)
        if starts_from_landmarks and not getattr(finder, "gives_landmarks", True):
            raise ValueError(_NO_LANDMARKS)
        self._finder = finder
        if compile_network:
            self.predictor.compile()

    @property
    def finder(self) -> FaceFinder:
        """What finds the faces."""
        if self._finder is None:
            from lit_face.inference.finders.cascade import CascadeFinder

            self._finder = CascadeFinder()
        return self._finder

    def reconstruct(
        self,
        images: Image | Iterable[Image],
        boxes: Boxes | None = None,
        batch_size: int = 16,
    ) -> list[list[Face]]:
        """Reconstruct every face of some photos.

        Args:
            images: files, uint8 or float (0 to 1) arrays (H,W,3) or (H,W), or tensors (3,H,W);
                one of them is taken as a list of one.
            boxes: for each photo the faces' boxes (N,4), left, top, right, bottom of the 68
                landmarks in pixels; none of them is searched for then.
            batch_size: crops a run of the network.

        Returns:
            For each photo its faces, the largest first; an empty list where none was found.

        Raises:
            FileNotFoundError, ValueError: an image that cannot be read, or boxes that do not fit.
        """
        if isinstance(images, str | Path | np.ndarray | Tensor):
            images = [images]
        paths = [image if isinstance(image, str | Path) else None for image in images]
        photos = [
            read_photo(image) if isinstance(image, str | Path) else as_photo(image)
            for image in images
        ]
        if boxes is None:
            found = [
                self.finder(photo, None if path is None else Path(path))
                for photo, path in zip(photos, paths, strict=True)
            ]
        else:
            if len(boxes) != len(photos):
                raise ValueError(f"{len(photos)} images need as many lists of boxes, {len(boxes)}.")
            found = [given_boxes(rows) for rows in boxes]
        return self.reconstruct_found(photos, found, batch_size)

    def reconstruct_found(
        self, photos: Sequence[Picture], found: Sequence[list[Detection]], batch_size: int = 16
    ) -> list[list[Face]]:
        """Reconstruct the faces that a finder found in photos (H,W,3) uint8."""
        wanted = [(row, face) for row, faces in enumerate(found) for face in faces]
        results: list[list[Face]] = [[] for _ in photos]
        for start in range(0, len(wanted), batch_size):
            chunk = wanted[start : start + batch_size]
            pictures = [photos[row] for row, _ in chunk]
            faces = self._batch(pictures, [detection for _, detection in chunk])
            for (row, _), face in zip(chunk, faces, strict=True):
                results[row].append(face)
        return results

    def _batch(self, photos: list[Picture], detections: list[Detection]) -> list[Face]:
        boxes = torch.tensor([detection.box for detection in detections], dtype=torch.float32)
        sizes = [photo.shape[:2] for photo in photos]
        predictor: Any = self.predictor
        if getattr(predictor, "starts_from_landmarks", False):
            return self._refined(photos, detections, boxes, None, sizes)
        points = _given_five_points(detections)
        given = points.isfinite().all(-1).all(-1)
        result = self._run(self._crop(photos, boxes, points), detections)
        for _ in range(self.passes - 1):
            if self._is_aligned and given.all():
                break
            found = result.landmarks[..., :2]
            again, usable = _boxes_again(found)
            boxes = torch.where(usable[:, None], again, boxes)
            points = torch.where((usable & ~given)[:, None, None], five_points(found), points)
            result = self._run(self._crop(photos, boxes, points), detections)
        if self.refinement is not None:
            return self._refined(photos, detections, boxes, result.landmarks[..., :2], sizes)
        return faces_of(result, detections, sizes)

    @property
    def _is_aligned(self) -> bool:
        return getattr(self.predictor, "alignment", "box") == "five_points"

    def _crop(self, photos: list[Picture], boxes: Tensor, points: Tensor | None = None) -> _Crops:
        """Cut faces out by their boxes (B,4), or by five points (B,5,2) that are not NaN."""
        predictor: Any = self.predictor
        size = int(predictor.image_size)
        matrices = crop_matrices(boxes, float(predictor.margin), size)
        if self._is_aligned and points is not None:
            standard = predictor.standard_points.detach().cpu()
            known = points.isfinite().all(-1).all(-1)[:, None, None]
            aligned = five_point_matrices(points.nan_to_num(), standard, size)
            matrices = torch.where(known, aligned, matrices)
        crops = [
            cut_out(photo, matrix, size) for photo, matrix in zip(photos, matrices, strict=True)
        ]
        return _Crops(torch.cat(crops).to(self.device), matrices)

    @torch.no_grad()
    def _run(self, crops: _Crops, detections: Sequence[Detection]) -> Reconstruction:
        """Run the network once; results in pixels of the photos."""
        given: list[Tensor] = [crops.images]
        if getattr(self.predictor, "takes_skin_mask", False):
            masks = _masks(detections, crops)
            given += [] if masks is None else [masks]
        lower = torch.autocast(self.device.type, torch.bfloat16)
        with lower if self.precision == "bfloat16" else nullcontext():
            result: Reconstruction = self.predictor(*given)
        return to_photo(result.to("cpu"), crops.matrices)

    def _refined(
        self,
        photos: list[Picture],
        detections: list[Detection],
        boxes: Tensor,
        landmarks: Tensor | None,
        sizes: list[tuple[int, int]],
    ) -> list[Face]:
        """Refine a batch; a finder's landmarks count more than a network's (B,68,2)."""
        crops, predictor, refinement = self._crop(photos, boxes), self.predictor, self.refinement
        found = [detection.landmarks for detection in detections]
        given = torch.tensor([points is not None for points in found])
        if landmarks is None:
            if not given.all():
                raise ValueError(_NO_LANDMARKS)
            landmarks = torch.zeros(len(found), 68, 2)
        own = torch.stack(
            [torch.zeros(68, 2) if p is None else torch.as_tensor(p).float() for p in found]
        )
        landmarks = torch.where(given[:, None, None], own, landmarks)
        landmarks = apply_similarity(crops.matrices, landmarks).to(self.device)
        masks = _masks(detections, crops)
        refined: Refined = predictor.refine(  # type: ignore[operator]
            crops.images, landmarks, refinement, bool(given.all()), masks
        )
        faces = faces_of(to_photo(refined.face.to("cpu"), crops.matrices), detections, sizes)
        for row, face in enumerate(faces):
            for moment, errors in (("before", refined.before), ("after", refined.after)):
                face.fit.update({f"{k}_{moment}": float(v[row]) for k, v in errors.items()})
            if face.fit.get("failed_after"):
                face.warnings.append("the fit's losses were not finite: it stopped early")
            for name, values in getattr(refined, "trace", {}).items():
                face.trace[name] = values[row].tolist()
        return faces


def faces_of(
    result: Reconstruction, detections: Sequence[Detection], sizes: Sequence[tuple[int, int]]
) -> list[Face]:
    """Split a batch in pixels of its photos into faces, with visibility, angles and warnings."""
    visible = visibility_in_photos(result.image_vertices, result.faces, sizes)
    angles = [(float("nan"),) * 3] * len(result)
    if result.camera is not None:
        angles = [tuple(row) for row in torch.rad2deg(camera_angles(result.camera)).tolist()]
    faces = []
    for row, (detection, size) in enumerate(zip(detections, sizes, strict=True)):
        one = one_of(result, row)
        doubts = warnings_of(
            detection.box, angles[row], one.landmarks[0], one.image_vertices[0], size
        )
        one = replace(one, visibility=visible[row : row + 1])
        face = Face(detection.box, detection.confidence, one, angles[row], size, doubts)
        faces.append(replace(face, skin_mask=detection.skin_mask))
    return faces


def _masks(detections: Sequence[Detection], crops: _Crops) -> Tensor | None:
    """Return the skin masks (B,1,S,S) of crops, where the finder has them for all."""
    masks = [detection.skin_mask for detection in detections]
    size = crops.images.shape[-1]
    cut = [
        cut_out_mask(mask, matrix, size)
        for mask, matrix in zip(masks, crops.matrices, strict=True)
        if mask is not None
    ]
    return torch.cat(cut).to(crops.images) if len(cut) == len(masks) else None


def _check_alignment(predictor: Any) -> None:
    alignment = getattr(predictor, "alignment", "box")
    is_known = alignment == "box" or (
        alignment == "five_points" and tuple(predictor.standard_points.shape) == (5, 3)
    )
    if not is_known:
        raise ValueError(
            f"{type(predictor).__name__}: alignment should be 'box', or 'five_points' with "
            f"standard_points (5,3); found {alignment!r}."
        )


def _given_five_points(detections: Sequence[Detection]) -> Tensor:
    """Return a finder's five points (B,5,2), of its 68 where it has them; NaN where neither."""
    rows = torch.full((len(detections), 5, 2), torch.nan)
    for row, detection in enumerate(detections):
        if detection.landmarks is not None:
            found = torch.as_tensor(detection.landmarks, dtype=torch.float32)
            rows[row] = five_points(found[:, :2])
        elif detection.five_points is not None:
            rows[row] = torch.as_tensor(detection.five_points, dtype=torch.float32)
    return rows


def _boxes_again(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the boxes (B,4) of landmarks (B,68,2), and which of them (B,) are of any use."""
    again = torch.cat([landmarks.amin(1), landmarks.amax(1)], dim=1)
    usable = again.isfinite().all(1) & ((again[:, 2:] - again[:, :2]).amin(1) >= 2)
    return again, usable


def given_boxes(rows: Any) -> list[Detection]:
    """Turn boxes (N,4) of one photo into detections.

    Raises:
        ValueError: another shape, or a box without area.
    """
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 4) if len(rows) else np.zeros((0, 4))
    for left, top, right, bottom in table:
        if not (right > left and bottom > top):
            raise ValueError(
                "A box should be left, top, right, bottom with right > left and bottom > top, "
                f"found {[left, top, right, bottom]}."
            )
    return [Detection((float(a), float(b), float(c), float(d))) for a, b, c, d in table]
