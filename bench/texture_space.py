"""A texture space from 64 photos of FFHQ's miniature: fit, learn to complete, complete, PCA.

Usage: python bench/texture_space.py [--out FOLDER] [--geometry fit|truth] [--photos 64]

Prints how long each stage took, the error of completed maps where photos showed nothing beside
that of a mean map, and what the new and the initial space leave of textures of people that are in
no photo. `--geometry truth` reads the photos into maps with the miniature's true faces and light,
without a fit. Stages that are done are not done again: give another --out, or remove it.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import binary_fill_holes

from lit_face.data.ffhq import FFHQDataset
from lit_face.data.ffhq_truth import FFHQTruth
from lit_face.data.miniature_ffhq import miniature_ffhq
from lit_face.data.miniature_people import people
from lit_face.data.texture_maps import (
    TextureMap,
    find_texture_maps,
    read_texture_map,
    texture_map_file,
    write_texture_map,
)
from lit_face.morphable_models.procedural import procedural_head
from lit_face.morphable_models.texture_space import (
    TextureSpace,
    plain_texture_of,
    texture_space_of,
)
from lit_face.morphable_models.texture_space_files import read_texture_space, save_texture_space
from lit_face.rendering.color import linear_to_srgb, srgb_to_linear
from lit_face.rendering.shade import sh_shading
from lit_face.rendering.texture_extraction import divide_shading, extractor_of
from lit_face.texture_space.build import coverage_of, load_completer
from lit_face.texture_space.completed import resampled

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT_PHOTOS = 8  # of the miniature; the texture space never sees their people
UNSEEN, FIRST_UNSEEN = 40, 1_000_000  # people, numbered as the miniature's held-out ones
COUNTS = (5, 10, 20)
MIN_CONFIDENCE = 0.3
SHOWN = 0.05  # share of the photos from which on a texel counts as shown


def main() -> None:
    """Run all stages and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("texture_space_bench"))
    parser.add_argument("--geometry", choices=("fit", "truth"), default="fit")
    parser.add_argument("--photos", type=int, default=64)
    parser.add_argument("--size", type=int, default=256, help="side of the maps, texels")
    parser.add_argument("--epochs", type=int, default=8, help="of the completion's training")
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    root = miniature_ffhq(given.photos + HELD_OUT_PHOTOS)
    head = procedural_head()
    plain = plain_texture_of(head, given.size)
    save_texture_space(out / "plain.npz", plain, head.uv, head.map_faces)
    times = {}
    fit = fit_photos if given.geometry == "fit" else true_fits
    times["fit"] = timed(out / "fits", lambda: fit(root, out, given.photos, given.size))
    times["train completion"] = timed(
        out / "completion",
        lambda: python(
            "train.py", "experiment=texture_completion_mini", f"data.root={out / 'fits'}",
            f"paths.runs={out}", "name=completion", f"trainer.max_epochs={given.epochs}",
            "trainer.enable_progress_bar=false",
        ),
    )  # fmt: skip
    times["complete, PCA, report"] = timed(
        out / "space" / "texture_space.npz",
        lambda: python(
            "-m", "lit_face.texture_space", str(out / "fits"), "--ckpt", str(out / "completion"),
            "--out", str(out / "space"), "--size", str(given.size), "--components", "60",
            "--model", "procedural",
        ),
    )  # fmt: skip
    print("\nstage                      seconds   of processors")
    times["all"] = (sum(t for t, _ in times.values()), sum(t for _, t in times.values()))
    for stage, (seconds, busy) in times.items():
        print(f"{stage:25} {seconds:8.0f} {busy:15.0f}")
    print_completion(out, root, given.size)
    print_spaces(read_texture_space(out / "space" / "texture_space.npz", given.size), plain)


def python(*arguments: str) -> None:
    """Run a command of the repository; stop where it fails."""
    print("$ python", " ".join(arguments), flush=True)
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True)


def timed(result: Path, stage: Callable[[], None]) -> tuple[float, float]:
    """Run a stage unless its result is there; return the seconds, and those of all processors."""
    start, busy = time.monotonic(), processor_seconds()
    if not result.exists():
        stage()
    return time.monotonic() - start, processor_seconds() - busy


def processor_seconds() -> float:
    """Return the seconds that processors worked for this process and those it has waited for."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(kind) for kind in kinds]
    return sum(one.ru_utime + one.ru_stime for one in used)


def fit_photos(root: Path, out: Path, count: int, size: int) -> None:
    """Fit the first photos with the plain space, as a user would.

    Landmarks are the miniature's exact vertices, jaw included; masks are filled where skin is all
    around (eyes, mouth), as those of FFHQ for the released code are.
    """
    photos, masks = out / "photos", out / "masks"
    photos.mkdir(exist_ok=True)
    masks.mkdir(exist_ok=True)
    for name in photo_names(root, count):
        shutil.copy(next(root.rglob(f"{name}.*g")), photos)
        mask = np.load(root / "segmentation" / f"{name}.npy") != 0
        np.save(masks / f"{name}.npy", binary_fill_holes(mask).astype(np.uint8))
    python(
        "reconstruct.py", "method=flame_fit", "texture_space=plain", f"texture_space.size={size}",
        "method.follow_contour=false", "finder=folder", f"finder.landmarks={root / 'landmarks'}",
        f"finder.masks={masks}", f"input={photos}", f"out={out / 'fits'}", "outputs=[uv]",
        f"texture_size={size}",
    )  # fmt: skip


def true_fits(root: Path, out: Path, count: int, size: int) -> None:
    """Read the photos into maps with the true faces and light."""
    truth, photos = FFHQTruth(root), FFHQDataset(root, "all")
    head = truth.model
    extractor = extractor_of(head.uv, head.faces, head.map_faces, size)
    for row in range(count):
        sample = photos[row]
        faces = truth.read([sample["sample_id"]])
        photo = srgb_to_linear(sample["image"][None].float() / 255)
        mask = sample["skin_mask"][None].float()
        found = extractor(photo, faces.camera.project(faces.vertices), mask)
        shading = sh_shading(found.normals.permute(0, 2, 3, 1), faces.light).permute(0, 3, 1, 2)
        albedo = linear_to_srgb(divide_shading(found.color, shading).clamp(0, 1))
        texture = TextureMap(
            (albedo[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy(),
            found.visible[0, 0].numpy(),
            (found.confidence[0, 0] * 255).round().to(torch.uint8).numpy(),
        )
        name = Path(sample["sample_id"]).stem
        write_texture_map(out / "fits.part" / name / "uv.npz", texture)
    (out / "fits.part").rename(out / "fits")


def photo_names(root: Path, count: int) -> list[str]:
    """Return the names of the first photos."""
    return [Path(name).stem for name in FFHQDataset(root, "all").sample_ids[:count]]


@torch.no_grad()
def print_completion(out: Path, root: Path, size: int) -> None:
    """Compare completed maps with the truth where the photos showed nothing.

    A photo does not say how bright the light was: the truth is brought to each fit's colours by a
    gain a channel over the texels that the photo shows (linear light), for all alike. Texels that
    hardly any photo shows (eyes, the scalp under hair) are apart: nothing can be learnt there.
    """
    _, completer = load_completer(out / "completion")
    head = procedural_head()
    space, covered = texture_space_of(head, size), torch.from_numpy(coverage_of(head, size))
    fits, names = out / "fits", find_texture_maps(out / "fits")
    maps = [
        resampled(read_texture_map(texture_map_file(fits, n)), size, MIN_CONFIDENCE) for n in names
    ]
    shown = torch.from_numpy(np.mean([known for _, known in maps], axis=0)) >= SHOWN
    errors: dict[str, list[list[float]]] = {"others show": [], "none shows": [], "all": []}
    own = []
    for name, (color, known) in zip(names, maps, strict=True):
        image = torch.from_numpy(color).permute(2, 0, 1).float() / 255
        seen = torch.from_numpy(known) & covered
        given = image[None], seen[None, None].float()
        kinds = completer.complete(*given)[0], completer.hint(*given)[0], completer.mean_map(size)
        number = name.rstrip("/").split("/")[0].split(".")[0]
        with np.load(root / "truth" / f"{number}.npz") as stored:
            albedo = torch.from_numpy(stored["albedo"])
        true = in_colours(space(albedo[None])[0].clamp(0, 1), image, seen)
        own.append(float((image - true)[:, seen].abs().mean()))
        hidden = covered & ~seen
        for place, where in zip(errors, (hidden & shown, hidden & ~shown, hidden), strict=True):
            found = [float((values - true)[:, where].abs().mean()) for values in kinds]
            errors[place].append(found)
    held_out = json.loads((out / "completion" / "metrics.json").read_text(encoding="utf-8"))
    done, filled = (255 * held_out[f"val/{kind}_l1"] for kind in ("completion", "mean_fill"))
    print("\nparts of the fits that were held out, L1 of 255")
    print(f"completed {done:.2f}, mean fill {filled:.2f}: {done / filled:.2f}")
    print(
        f"the fits themselves against the truth, where the photos show it: {255 * np.mean(own):.2f}"
    )
    print(f"\nhidden texels of {len(names)} maps against the truth, L1 of 255")
    print("                completed   without network   mean fill   completed / mean fill")
    for place, rows in errors.items():
        whole, hint, mean = 255 * np.mean(rows, axis=0)
        print(f"{place:15} {whole:9.2f} {hint:17.2f} {mean:11.2f} {whole / mean:23.2f}")


def in_colours(true: torch.Tensor, image: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Return a true map (3,S,S) with each channel's gain fitted to a photo's, in linear light."""
    linear, other = srgb_to_linear(true), srgb_to_linear(image)
    gain = (linear * other)[:, seen].sum(1) / linear[:, seen].square().sum(1)
    return linear_to_srgb((gain[:, None, None] * linear).clamp(0, 1))


@torch.no_grad()
def print_spaces(new: TextureSpace, plain: TextureSpace) -> None:
    """Compare what two spaces leave of the textures of people that no photo shows."""
    head = procedural_head()
    person = FIRST_UNSEEN + torch.arange(UNSEEN)
    albedo = people(head, person, torch.ones(UNSEEN, dtype=torch.bool))["albedo"]
    true = texture_space_of(head, new.size)(albedo).clamp(0, 1)
    print(f"\nRMSE of {UNSEEN} unseen textures, of 255\ncomponents   plain     new")
    for count in (0, *COUNTS):
        left = [255 * residual(space, true, count) for space in (plain, new)]
        print(f"{count:10} {left[0]:7.2f} {left[1]:7.2f}")


def residual(space: TextureSpace, true: torch.Tensor, count: int) -> float:
    """Return the RMSE that the leading components leave of maps (B,3,S,S), covered texels."""
    where = space.coverage
    centred = (true - space.mean)[:, :, where].flatten(1).double()
    if count:
        basis = space.basis[:count][:, :, where].flatten(1).double()
        orthogonal, _ = torch.linalg.qr(basis.T)
        centred = centred - (centred @ orthogonal) @ orthogonal.T
    return float(centred.square().mean().sqrt())


if __name__ == "__main__":
    main()
