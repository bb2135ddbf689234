"""Face finders on rendered faces: where their boxes lie, what their scores mean, what they find.

python bench/face_finder.py                      the constants of the cascades, then every finder
python bench/face_finder.py --pictures 480

Nothing here looks at photos of people: rendered heads with hair, clothes, occluders, light and
background, yaw up to 80 degrees, pitch and roll up to 25.
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np
import torch

from lit_face.data.landmarks import project_landmarks
from lit_face.data.photographs.camera import sample_poses
from lit_face.data.photographs.render import render_photographs
from lit_face.data.random import sample_keys
from lit_face.geometry.pose import head_angles
from lit_face.inference.finders import cascade
from lit_face.morphable_models.procedural import procedural_head

SIZE = 400
YAWS = ((0, 20), (20, 40), (40, 60), (60, 80))


def rendered(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pictures (N,H,W,3), the boxes of their landmarks (N,4) and yaw in degrees."""
    model = procedural_head()
    pictures, boxes, yaws = [], [], []
    for start in range(0, count, 8):
        keys = sample_keys(seed, 0, torch.arange(start, start + 8))
        coefficients = model.sample(8, torch.Generator().manual_seed(seed * 1000 + start))
        points = model.landmarks(model(coefficients["identity"], coefficients["expression"]))
        camera = sample_poses(keys, points, (SIZE, SIZE), box_range=(0.2, 0.5))
        shown = render_photographs(model, coefficients, camera, keys, (SIZE, SIZE))
        pictures.append((shown.image.permute(0, 2, 3, 1) * 255).round().byte().numpy())
        landmarks = project_landmarks(model, coefficients, camera)[..., :2]
        boxes.append(torch.cat([landmarks.amin(1), landmarks.amax(1)], 1).numpy())
        yaws.append(torch.rad2deg(head_angles(camera))[:, 1].numpy())
    return np.concatenate(pictures), np.concatenate(boxes), np.concatenate(yaws)


def is_face(centre: np.ndarray, size: float, box: np.ndarray) -> bool:
    """Whether a detection is about a face at all: centre and size within half of the box."""
    true = (box[:2] + box[2:]) / 2
    side = float((box[2:] - box[:2]).mean())
    return bool(np.abs(centre - true).max() < 0.5 * side and 0.6 < size / side < 2.2)


def constants(pictures: np.ndarray, boxes: np.ndarray) -> None:
    """Print, for each cascade, the rule of its boxes and the meaning of its scores."""
    greys = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    for name in ("frontalface_default", "profileface"):
        rows, good, bad = [], [], []
        for grey, box in zip(greys, boxes, strict=True):
            for mirrored in (False, True)[: 1 if "frontal" in name else 2]:
                seen = np.ascontiguousarray(grey[:, ::-1]) if mirrored else grey
                for left, top, side, score in cascade.raw_squares(name, seen, 24, 2):
                    true = box.copy()
                    if mirrored:
                        true[[0, 2]] = SIZE - 1 - box[[2, 0]]
                    centre = np.array([left, top]) - 0.5 + side / 2
                    if is_face(centre, side, true):
                        shift = ((true[:2] + true[2:]) / 2 - centre) / side
                        rows.append([*shift, *((true[2:] - true[:2]) / side)])
                        good.append(score)
                    else:
                        bad.append(score)
        x, y, width, height = np.median(rows, axis=0)
        spread = np.std(rows, axis=0)
        slope, offset = logistic(np.array(good), np.array(bad))
        print(
            f"{name}: BoxRule({x:.3f}, {y:.3f}, {width:.3f}, {height:.3f}), spread "
            f"{spread.round(3).tolist()}; {len(good)} true, {len(bad)} false; score even at "
            f"{-offset / slope:.2f}, scale {1 / slope:.2f}"
        )


def logistic(good: np.ndarray, bad: np.ndarray) -> tuple[float, float]:
    """Fit P(true | score) = sigmoid(slope * score + offset) by Newton's method."""
    score = np.concatenate([good, bad])
    target = np.concatenate([np.ones(len(good)), np.zeros(len(bad))])
    design = np.column_stack([score, np.ones_like(score)])
    weights = np.zeros(2)
    for _ in range(30):
        chance = 1 / (1 + np.exp(-design @ weights))
        curvature = design.T @ (design * (chance * (1 - chance))[:, None])
        weights += np.linalg.solve(
            curvature + 1e-6 * np.eye(2), design.T @ (target - chance) - 1e-6 * weights
        )
    return float(weights[0]), float(weights[1])


def judge(name: str, finder, pictures: np.ndarray, boxes: np.ndarray, yaws: np.ndarray) -> None:  # noqa: ANN001
    """Print what a finder finds, how well its boxes fit, false alarms and time."""
    hit, wrong, shifts, sizes = np.zeros(len(pictures), bool), 0, [], []
    start = time.perf_counter()
    found = [finder(picture) for picture in pictures]
    took = (time.perf_counter() - start) / len(pictures) * 1000
    for row, (detections, box) in enumerate(zip(found, boxes, strict=True)):
        side = (box[2:] - box[:2]).mean()
        for detection in detections:
            given = np.array(detection.box)
            shift = np.abs((given[:2] + given[2:] - box[:2] - box[2:]) / 2).max() / side
            if shift < 0.5 and 0.5 < detection.size / side < 2:
                hit[row] = True
                shifts.append(shift)
                sizes.append(np.log(detection.size / side))
            else:
                wrong += 1
    by_yaw = [hit[(abs(yaws) >= low) & (abs(yaws) < high)].mean() for low, high in YAWS]
    print(
        f"{name:16s} found {hit.mean():.0%} (|yaw| 0-20-40-60-80: "
        f"{' '.join(f'{share:.0%}' for share in by_yaw)}), false {wrong / len(pictures):.2f} a "
        f"picture, centre off {np.mean(shifts):.3f} and size {np.std(sizes):.3f} of the box, "
        f"{took:.0f} ms"
    )


def main() -> None:
    """Measure; see the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=240)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    pictures, boxes, _ = rendered(options.pictures, seed=1)
    constants(pictures, boxes)
    pictures, boxes, yaws = rendered(options.pictures, seed=2)  # other faces
    judge("cascade", cascade.CascadeFinder(), pictures, boxes, yaws)
    judge("cascade, plain", cascade.CascadeFinder(second_look=False), pictures, boxes, yaws)
    try:
        from lit_face.inference.finders.mediapipe import MediaPipeFinder

        judge("mediapipe", MediaPipeFinder(), pictures, boxes, yaws)
    except ImportError as error:
        print(f"mediapipe: {error}")


if __name__ == "__main__":
    main()
