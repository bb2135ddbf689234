"""Photographs of the procedural head, as files, and a tiny trained model that is used on them."""

import csv
from functools import cache

import torch

from lit_face.data.landmarks import project_landmarks
from lit_face.data.photographs.camera import pose_camera
from lit_face.data.photographs.render import render_photographs
from lit_face.data.random import sample_keys
from lit_face.inference.finders.base import Detection
from lit_face.inference.model import faces_of
from lit_face.io.images import write_image
from lit_face.methods.prn.reader import PositionMapReader
from lit_face.morphable_models.position_maps import PositionMaps
from tests.helpers.faces import head


@cache
def position_maps(size):
    """Ground truth position maps of the procedural head, and their reader."""
    maps = PositionMaps(head(), size)
    return maps, PositionMapReader.of_model(head(), maps)


def portraits(angles_deg, size=240, seed=3, occlusion=0.0):
    """Return pictures (B,H,W,3) uint8, landmarks (B,68,3), coefficients, camera and skin masks."""
    angles = torch.deg2rad(torch.tensor(angles_deg, dtype=torch.float32))
    count = len(angles)
    coefficients = head().sample(count, torch.Generator().manual_seed(seed))
    points = head().landmarks(head()(coefficients["identity"], coefficients["expression"]))
    middle = torch.full((count, 2), (size - 1) / 2)
    camera = pose_camera(angles, middle, points, box=torch.full((count,), 0.45 * size))
    keys = sample_keys(seed, 0, torch.arange(count))
    shown = render_photographs(head(), coefficients, camera, keys, (size, size), occlusion)
    pictures = (shown.image.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    landmarks = project_landmarks(head(), coefficients, camera)
    return pictures, landmarks, coefficients, camera, shown.skin_mask


def true_faces(coefficients, camera, photo_size, map_size=256):
    """Return the true faces, as a perfect network would give them."""
    maps, reader = position_maps(map_size)
    truth = reader(maps(coefficients, camera))
    boxes = torch.cat([truth.landmarks[..., :2].amin(1), truth.landmarks[..., :2].amax(1)], dim=1)
    detections = [Detection(tuple(box)) for box in boxes.tolist()]
    return faces_of(truth, detections, [photo_size] * len(detections))


def write_portraits(folder, names, pictures, landmarks):
    """Write pictures as files below `folder` and boxes.csv beside it; return that table's path."""
    table = folder.parent / f"{folder.name}_boxes.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("photo", "left", "top", "right", "bottom"))
        for name, picture, points in zip(names, pictures, landmarks, strict=True):
            write_image(folder / name, picture)
            low, high = points[:, :2].amin(0).tolist(), points[:, :2].amax(0).tolist()
            writer.writerow((name, *low, *high))
    return table
