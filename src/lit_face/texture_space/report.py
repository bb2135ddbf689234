"""Pictures and tables that show what a texture space holds."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lit_face.io.files import atomic_write
from lit_face.io.images import write_image
from lit_face.texture_space.pca import Components

_SHEET_SIDE = 192  # texels of each map on the sheet
_SHOWN = 5


def sample_sheet(found: Components, size: int) -> NDArray[np.uint8]:
    """Return a picture: the mean above, then each leading component at -2 and +2 deviations.

    Args:
        found: components of maps that are blue, green, red, 0 to 255.
        size: side S of the maps.

    Returns:
        (2 S', (1 + K) S', 3) RGB: left column the mean twice, then a column a component.
    """
    columns = [[found.mean, found.mean]]
    columns += [[found.mean - 2 * d, found.mean + 2 * d] for d in found.directions[:_SHOWN]]
    step = max(1, size // _SHEET_SIDE)
    tiles = [[_picture(values, size)[::step, ::step] for values in pair] for pair in columns]
    return np.concatenate([np.concatenate(pair, axis=0) for pair in tiles], axis=1)


def write_report(
    folder: Path, found: Components, size: int, held_out: Mapping[int, float] | None
) -> None:
    """Write `samples.png`, `variance.csv`, `curves.png` and, with held-out maps, `held_out.csv`.

    Args:
        folder: where they go.
        found: components of maps that are blue, green, red, 0 to 255.
        size: side of the maps.
        held_out: RMSE, of 255, of maps that took no part, by the number of components.
    """
    write_image(folder / "samples.png", sample_sheet(found, size))
    share = np.cumsum(found.variance) / max(found.total_variance, 1e-30)
    rows = [
        (k, f"{v:.6g}", f"{s:.6f}")
        for k, (v, s) in enumerate(zip(found.variance, share, strict=True), 1)
    ]
    _write_table(folder / "variance.csv", ("component", "variance", "explained"), rows)
    if held_out is not None:
        table = [(k, f"{value:.4f}") for k, value in held_out.items()]
        _write_table(folder / "held_out.csv", ("components", "rmse_255"), table)
    figure = _curves(share, held_out)
    with atomic_write(folder / "curves.png") as temporary:
        figure.savefig(temporary)


def _curves(share: NDArray[np.floating], held_out: Mapping[int, float] | None) -> Figure:
    figure = Figure(figsize=(8, 3.5), dpi=110, layout="constrained")
    axes = figure.subplots(1, 1 if held_out is None else 2, squeeze=False)[0]
    axes[0].plot(range(len(share) + 1), [0, *(100 * share)])
    axes[0].set(xlabel="components", ylabel="explained variance, percent", ylim=(0, 102))
    if held_out is not None:
        axes[1].plot(list(held_out), list(held_out.values()), marker="o")
        axes[1].set(xlabel="components", ylabel="RMSE of held-out maps, of 255")
        axes[1].set_ylim(bottom=0)
    for plot in axes:
        plot.grid(alpha=0.3)
    return figure


def _picture(values: NDArray[np.floating], size: int) -> NDArray[np.uint8]:
    bgr = np.asarray(values).reshape(size, size, 3)
    return np.ascontiguousarray(np.clip(np.round(bgr[:, :, ::-1]), 0, 255).astype(np.uint8))


def _write_table(path: Path, header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
