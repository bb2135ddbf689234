"""How well a model places the 68 points on annotated photos, beside the mean face in the same box.

Usage: python bench/photos.py [--model FOLDER|CHECKPOINT] [--photos FOLDER] [--finder cascade|truth]

Photos lie anywhere below the folder, each with a .mat of AFLW2000-3D (pt3d_68) or 300W-LP (pt2d).
NME 2D: mean distance over sqrt(width * height) of the true points' box. The mean face is the
model's own, unturned, with its points' box laid onto the box that the finder found.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

import lit_face
from lit_face.data.fit_parameters import from_matlab_pixels
from lit_face.data.landmarks import MIRROR_68
from lit_face.io.matlab import load_mat

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print a line a photo and the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="prn_ict")
    reference = Path(os.environ.get("LIT_FACE_REFERENCE", ROOT.parent / "shared" / "reference"))
    parser.add_argument("--photos", type=Path, default=reference / "prn" / "samples")
    parser.add_argument("--finder", choices=("cascade", "truth"), default="cascade")
    parser.add_argument("--passes", type=int, default=2)
    options = parser.parse_args()
    model = lit_face.load(options.model, passes=options.passes)
    mean_face = mean_landmarks(model)
    rows = []
    for file in sorted(options.photos.rglob("*.jpg")):
        truth = true_points(file.with_suffix(".mat"))
        boxes = None
        if options.finder == "truth":
            boxes = [[[*truth.min(0), *truth.max(0)]]]
        faces = model.reconstruct(file, boxes=boxes)[0]
        name = str(file.relative_to(options.photos))
        if not faces:
            print(f"{name:44} no face found")
            continue
        face = max(faces, key=lambda found: found.box[2] - found.box[0])
        found, guess = nme(face.landmarks[:, :2], truth), nme(fit(mean_face, face.box), truth)
        rows.append((found, guess))
        print(f"{name:44} {found:6.2f} %   mean face {guess:6.2f} %   yaw {face.angles[1]:6.1f}")
    model_mean, guess_mean = np.mean(rows, axis=0)
    print(f"{f'mean of {len(rows)}':44} {model_mean:6.2f} %   mean face {guess_mean:6.2f} %")


def true_points(file: Path) -> np.ndarray:
    """Read the 68 true points (68,2) in 0-based pixels."""
    fields = load_mat(file)
    points = np.asarray(fields["pt3d_68"] if "pt3d_68" in fields else fields["pt2d"])[:2].T
    if file.parent.name.endswith("_Flip"):  # 300W-LP mirrors the points and keeps their order
        points = points[MIRROR_68.numpy()]
    return np.asarray(from_matlab_pixels(points.astype(np.float64)))


def mean_landmarks(model: lit_face.FaceModel) -> np.ndarray:
    """Return the mean face's points (68,2), x right, y down, of any size."""
    reader = model.predictor.reader
    points = (reader.mean_face[reader.landmark_texels] * reader.landmark_weights[..., None]).sum(1)
    return points[:, :2].numpy() * [1, -1]


def fit(points: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Lay points onto a box: the same centre, the same mean of width and height."""
    low, high = points.min(0), points.max(0)
    size = (box[2] - box[0] + box[3] - box[1]) / (high - low).sum()
    centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    return (points - (low + high) / 2) * size + centre


def nme(points: np.ndarray, truth: np.ndarray) -> float:
    """Return the normalised mean error, percent."""
    width, height = truth.max(0) - truth.min(0)
    return float(100 * np.linalg.norm(points - truth, axis=1).mean() / np.sqrt(width * height))


if __name__ == "__main__":
    main()
