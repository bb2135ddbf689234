"""Speed of reading 300W-LP: python bench/loader.py [--samples N] [--root FOLDER] [--quick].

The packed index against what other projects' loaders do: open the sample's .mat file each time.
Without a root, the miniature is repeated under new names until it has enough samples; its files lie
in the page cache after the first round, so the numbers are the work of the CPU, not of the disk.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import scipy.io
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lit_face.data.fit_parameters import pose_cameras
from lit_face.data.fitted import collate, find_model
from lit_face.data.miniature_w300lp import miniature_w300lp
from lit_face.data.w300lp import W300LPDataset

REAL_SIZE = 61_225
BATCH = 16


class PerFileDataset(Dataset[dict[str, Any]]):
    """Reads a picture and its .mat a sample, as face3d's and 3DDFA's examples do."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: int) -> dict[str, Any]:
        path = self.paths[item]
        image = cv2.cvtColor(cv2.imread(f"{path}.jpg"), cv2.COLOR_BGR2RGB)
        return {
            "image": torch.from_numpy(image).permute(2, 0, 1).contiguous(),
            "sample_id": path.name,
            **self.annotations(item),
        }

    def annotations(self, item: int) -> dict[str, Any]:
        """Read everything but the picture."""
        content = scipy.io.loadmat(f"{self.paths[item]}.mat")
        pose = content["Pose_Para"].astype("float32")
        coefficients = {
            "identity": torch.from_numpy(content["Shape_Para"].astype("float32")[:, 0]),
            "expression": torch.from_numpy(content["Exp_Para"].astype("float32")[:, 0]),
        }
        return {"camera": pose_cameras(pose).matrix[0], "coefficients": coefficients}


def repeated(root: Path, folder: Path, samples: int) -> Path:
    """Link the miniature's files under new photograph names until there are `samples` of them."""
    target = folder / "300W_LP"
    shutil.copytree(root.parent / "BFM", folder / "BFM")
    pairs = sorted(path for path in root.glob("[AHIL]*/*.jpg") if "_Flip" not in path.parent.name)
    for number in range(samples):
        source = pairs[number % len(pairs)]
        photograph, _, view = source.stem.rpartition("_")
        stem = f"{photograph}x{number // len(pairs):05d}_{view}"
        (target / source.parent.name).mkdir(parents=True, exist_ok=True)
        for suffix in (".jpg", ".mat"):
            link = target / source.parent.name / f"{stem}{suffix}"
            os.link(source.with_suffix(suffix), link)
    shutil.copy(root / "miniature.json", target)
    return target


def packed_annotations(dataset: W300LPDataset, item: int) -> tuple[dict[str, Tensor], Tensor]:
    """Read everything but the picture from the index."""
    return dataset.coefficients([item]), dataset.camera.matrix[item]


def rate(read: Callable[[int], object], count: int, seconds: float) -> float:
    """Return samples a second of reading in a shuffled order for some seconds."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    for item in order[:20]:
        read(item)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        read(order[done % count])
        done += 1
    return done / (time.perf_counter() - start)


def loader_rate(dataset: Dataset[dict[str, Any]], workers: int, seconds: float) -> float:
    """Return samples a second that arrive as batches from worker processes, start-up excluded."""
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, collate_fn=collate)
    batches, done, start = iter(loader), 0, 0.0
    for number, batch in enumerate(batches):
        assert isinstance(batch.image, Tensor)
        if number == 4:
            start = time.perf_counter()
        done += len(batch) if number > 4 else 0
        if number > 4 and time.perf_counter() - start > seconds:
            break
    return done / (time.perf_counter() - start)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.split(".")[0])
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--root", type=Path, help="a real 300W_LP with BFM.mat beside it")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING)
    seconds = 1.0 if options.quick else 5.0
    samples = 400 if options.quick else options.samples
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as temporary:
        folder = Path(temporary)
        root = options.root or repeated(miniature_w300lp(), folder, samples)
        model = find_model("300W-LP", root)
        start = time.perf_counter()
        packed = W300LPDataset(root, "all", model, cache_folder=folder / "cache")
        build = time.perf_counter() - start
        start = time.perf_counter()
        packed = W300LPDataset(root, "all", model, cache_folder=folder / "cache")
        reopen = time.perf_counter() - start
        per_file = PerFileDataset([root / name for name in packed.sample_ids])
        size = (packed.index.folder / "records.npy").stat().st_size / len(packed)
        print(f"{platform.processor() or platform.machine()}, {len(packed)} samples, one thread")
        print(f"index: {1e3 * build / len(packed):.2f} ms a sample to build, once "
              f"({build / len(packed) * REAL_SIZE:.0f} s for {REAL_SIZE}); {reopen:.2f} s to open "
              f"again; {size / 1e3:.1f} kB a sample")  # fmt: skip
        print(f"\n{'samples a second':34s}{'per file':>10s}{'packed':>10s}{'ratio':>8s}")
        rows = [
            ("annotations only", rate(per_file.annotations, len(packed), seconds),
             rate(partial(packed_annotations, packed), len(packed), seconds)),
            ("image and annotations", rate(per_file.__getitem__, len(packed), seconds),
             rate(packed.__getitem__, len(packed), seconds)),
        ]  # fmt: skip
        for workers in options.workers:
            name = f"batches of {BATCH}, {workers} worker processes"
            rows.append((name, *(loader_rate(d, workers, seconds) for d in (per_file, packed))))
        for name, before, after in rows:
            print(f"{name:34s}{before:10.0f}{after:10.0f}{after / before:8.2f}")


if __name__ == "__main__":
    main()
