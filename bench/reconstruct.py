"""What a photo costs on its way through lit_face: python bench/reconstruct.py [--model FILE].

Milliseconds a photo with one face, at batch 1 and 16: reading, detection, crop, network (float32,
bfloat16, compiled, onnxruntime), faces (pixels of the photo, visibility, pose), and every output.
Without --model, the paper's PRN (13.4 M weights, 256 px, 47,000 vertices) with random weights.
Medians; one thread unless --threads says otherwise.
"""

# ruff: noqa: I001
from __future__ import annotations

import lit_face  # noqa: F401  (first: arms the torchvision repair)

import argparse
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from lit_face.data.photographs.camera import pose_camera
from lit_face.data.photographs.render import render_photographs
from lit_face.data.random import sample_keys
from lit_face.inference.crops import crop_matrices, cut_out, to_photo
from lit_face.inference.finders.base import Detection
from lit_face.inference.finders.cascade import CascadeFinder
from lit_face.inference.loading import choose_device, load_predictor
from lit_face.inference.model import faces_of
from lit_face.inference.outputs import OUTPUTS, PHOTO_OUTPUTS, Export, ExportSettings
from lit_face.io.images import write_image
from lit_face.io.photos import read_photo
from lit_face.methods.prn import PRNNetwork
from lit_face.methods.prn.predictor import PRNPredictor
from lit_face.methods.prn.reader import PositionMapReader
from lit_face.morphable_models.position_maps import PositionMaps
from lit_face.morphable_models.procedural import procedural_head

SIZE = 640


def photo() -> tuple[np.ndarray, list[float], Any]:
    """Return a rendered photo, the box of its landmarks, and the true face at 256 x 256 texels."""
    model = procedural_head()
    coefficients = model.sample(1, torch.Generator().manual_seed(5))
    vertices = model(coefficients["identity"], coefficients["expression"])
    points = model.landmarks(vertices)
    middle = torch.full((1, 2), (SIZE - 1) / 2)
    camera = pose_camera(
        torch.tensor([[0.05, 0.3, 0.0]]), middle, points, box=torch.tensor([280.0])
    )
    keys = sample_keys(5, 0, torch.arange(1))
    picture = render_photographs(model, coefficients, camera, keys, (SIZE, SIZE), 0.0).image[0]
    maps = PositionMaps(model, 256)
    reader = PositionMapReader.of_model(model, maps)
    truth = reader(maps(coefficients, camera))
    low, high = truth.landmarks[0, :, :2].amin(0), truth.landmarks[0, :, :2].amax(0)
    pixels = (picture.permute(1, 2, 0) * 255).round().byte().numpy()
    return pixels, [*low.tolist(), *high.tolist()], (truth, reader)


def milliseconds(work: Callable[[], Any], photos: int, budget: float = 2.0) -> float:
    """Return the median time of `work`, which does `photos` photos, a photo."""
    work()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < budget:
        begin = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) * 1000 / photos)
    return statistics.median(times)


def networks(predictor: Any, device: str, folder: Path) -> dict[str, Callable[[torch.Tensor], Any]]:
    """Return what turns crops into reconstructions, by name."""

    def plain(images: torch.Tensor) -> Any:
        return predictor(images)

    def lower(images: torch.Tensor) -> Any:
        with torch.autocast(device, torch.bfloat16):
            return predictor(images)

    runs: dict[str, Callable[[torch.Tensor], Any]] = {"float32": plain, "bfloat16": lower}
    compiled = copy.deepcopy(predictor)
    compiled.network.compile(options={"layout_optimization": device == "cuda"})
    runs["compiled"] = compiled
    try:
        from lit_face.inference.onnx import OnnxPredictor, export_onnx

        export_onnx(predictor, folder / "model.onnx")
        runs["onnxruntime"] = OnnxPredictor(folder / "model.onnx")
    except ImportError as error:
        print(f"onnxruntime left out: {error}")
    return runs


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="what lit_face.load takes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--leave-out", nargs="*", default=[], help="compiled, onnxruntime, ...")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    device = choose_device(options.device)
    picture, box, (truth, reader) = photo()
    if options.model:
        predictor = load_predictor(options.model)
    else:
        predictor = PRNPredictor(PRNNetwork(), reader).eval()
    predictor = predictor.to(device)
    weights = sum(weight.numel() for weight in predictor.parameters()) / 1e6
    print(
        f"{type(predictor).__name__}, {weights:.1f} M weights, {predictor.image_size} px; "
        f"{len(truth.faces)} triangles written; photo {SIZE} x {SIZE}; {device}, "
        f"{options.threads} thread(s); torch {torch.__version__}\n"
    )
    rows: dict[str, list[str]] = {}

    def note(name: str, value: float) -> None:
        rows.setdefault(name, []).append(f"{value:9.1f}")

    with tempfile.TemporaryDirectory() as temporary, torch.no_grad():
        folder = Path(temporary)
        write_image(folder / "photo.jpg", picture)
        runs = networks(predictor, device, folder)
        for count in options.batches:
            measure(note, count, picture, box, truth, predictor, runs, device, folder, options)
    print(f"{'ms a photo, batch of':24}" + "".join(f"{count:9d}" for count in options.batches))
    for name, values in rows.items():
        print(f"{name:24}" + "".join(values))


def measure(
    note: Callable[[str, float], None],
    count: int,
    picture: np.ndarray,
    box: list[float],
    truth: Any,
    predictor: Any,
    runs: dict[str, Callable[[torch.Tensor], Any]],
    device: str,
    folder: Path,
    options: Any,
) -> None:
    """Time every stage for `count` photos at once."""
    finder, size = CascadeFinder(), predictor.image_size
    boxes = torch.tensor([box] * count)
    detections = [Detection(tuple(box))] * count  # type: ignore[arg-type]
    note("read the JPEG", milliseconds(lambda: read_photo(folder / "photo.jpg"), 1))
    note("find faces (cascade)", milliseconds(lambda: finder(picture), 1))

    def crop() -> torch.Tensor:
        matrices = crop_matrices(boxes, predictor.margin, size)
        return torch.cat([cut_out(picture, matrix, size) for matrix in matrices])

    note("crop", milliseconds(crop, count))
    images = crop().to(device)
    for name, run in runs.items():
        if name not in options.leave_out:
            note(f"network, {name}", milliseconds(lambda run=run: run(images), count))  # type: ignore[misc]
    matrices = crop_matrices(boxes, predictor.margin, size)
    crops = to_photo(repeated(truth, count), torch.linalg.inv(matrices))

    def faces() -> Any:
        return faces_of(to_photo(crops, matrices), detections, [(SIZE, SIZE)] * count)

    note("faces, visibility, pose", milliseconds(faces, count))
    for texture in (256, 1024):
        face = faces()[0]

        def export(texture: int = texture, face: Any = face) -> Export:
            return Export(face, picture, ExportSettings(texture_size=texture))

        note(f"texture of {texture}", milliseconds(lambda: export().texture, 1))
    ready = export()
    ready = Export(ready.face, ready.photo, ExportSettings())
    _ = ready.texture, ready.colors
    for name, write in OUTPUTS.items():
        note(f"write {name}", milliseconds(lambda write=write: write(ready, folder), 1))  # type: ignore[misc]
    for name, write_all in PHOTO_OUTPUTS.items():
        note(f"write {name}", milliseconds(lambda w=write_all: w([ready], folder), 1))  # type: ignore[misc]
    sys.stdout.flush()


def repeated(truth: Any, count: int) -> Any:
    """Repeat a reconstruction of one face `count` times; topology is shared."""
    many = truth.map(lambda tensor: tensor[:1].expand(count, *tensor.shape[1:]).contiguous())
    return replace(many, faces=truth.faces, uv=truth.uv)


if __name__ == "__main__":
    main()
