"""The tables of `ffhq_photometric`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lit_face.metrics.skin_tone import GROUPS
from lit_face.reporting.result import Table

ROWS = {
    "photo_l1": "picture, L1, linear light, masked",
    "psnr": "picture, PSNR, sRGB (dB, higher is better)",
    "ssim": "picture, SSIM, sRGB (higher is better)",
    "lpips": "picture, LPIPS (AlexNet)",
    "coverage_iou": "skin mask and rendered mask, IoU (higher is better)",
    "skin_covered": "share of the skin mask that is rendered (higher is better)",
    "landmarks_px": "68 points (pixels of a 256-pixel crop)",
    "landmarks_inner_px": "51 points without the jaw (pixels of a 256-pixel crop)",
    "nme": "68 points, 2D NME (% of the box)",
    "vertices_mm": "face, corresponding points, similarity-aligned (mm)",
    "vertices_rigid_mm": "face, corresponding points, rigidly aligned (mm)",
    "normals_deg": "face, normals (degrees)",
    "albedo_rmse": "diffuse albedo, RMSE, linear",
    "albedo_si_rmse": "diffuse albedo, RMSE after a gain of each channel",
    "specular_si_rmse": "specular albedo, RMSE after a gain",
    "ita_error_deg": "skin tone, ITA (degrees)",
    "light_rel": "light, irradiance, relative L2",
    "light_si_rel": "light, irradiance, relative L2 after a gain",
    "identity_std": "identity coefficients, std over pictures of a person",
    "identity_std_share": "the same, share of the std over all pictures",
    "albedo_std": "albedo map, std over pictures of a person",
    "albedo_std_share": "the same, share of the std over all pictures",
}
HIGHER_IS_BETTER = frozenset({"psnr", "ssim", "coverage_iou", "skin_covered"})
_BY_TONE = (
    "photo_l1", "psnr", "albedo_rmse", "albedo_si_rmse", "ita_error_deg", "light_si_rel",
    "vertices_mm",
)  # fmt: skip
Summary = Mapping[str, float]


def result_tables(
    label: str,
    summary: Summary,
    baselines: Mapping[str, Summary],
    tones: Mapping[str, Summary],
    baseline_tones: Mapping[str, Summary],
) -> list[Table]:
    """Lay out a summary: all errors beside the baselines, residual maps, skin tones.

    Args:
        label: of the method.
        summary: error -> mean.
        baselines: name -> summary; the first one gives the ratios.
        tones: skin tone group -> summary of its pictures.
        baseline_tones: the same of the first baseline.
    """
    tables = [_overview(label, summary, baselines)]
    if "residual_gain" in summary:
        names = ("photo_l1", "psnr", "ssim")
        rows = [
            ["statistical albedo alone", *(summary.get(f"statistical/{key}") for key in names)],
            ["with residual maps", *(summary.get(key) for key in names)],
        ]
        note = f"L1 falls by {100 * summary['residual_gain']:.1f} %."
        tables.append(Table("Residual maps", ["albedo", *names], rows, note, 4))
    if tones:
        keys = [key for key in _BY_TONE if key in summary]
        first = next(iter(baselines))
        columns = ["skin tone (ITA)", "pictures", *keys, f"photo_l1, {first}"]
        rows = [
            [
                group.replace("_", " "),
                str(int(tones[group]["images"])),
                *(tones[group].get(key) for key in keys),
                baseline_tones.get(group, {}).get("photo_l1"),
            ]
            for group in GROUPS
            if group in tones
        ]
        note = (
            "Groups of the true albedo's individual typology angle (very light above 55 degrees, "
            "light 41, intermediate 28, tan 10, brown -30, dark). L1 grows with brightness: "
            "compare with the baseline of the same row."
        )
        tables.append(Table("By skin tone", columns, rows, note, 4))
    return tables


def _overview(label: str, summary: Summary, baselines: Mapping[str, Summary]) -> Table:
    first = next(iter(baselines.values()))
    rows = []
    for key, text in ROWS.items():
        if key not in summary:
            continue
        value, other = summary[key], first.get(key)
        comparable = key not in HIGHER_IS_BETTER and other is not None and other > 0
        ratio = value / other if comparable and other is not None else None
        rows.append([text, value, *(part.get(key) for part in baselines.values()), ratio])
    columns = ["error", label, *baselines, "ratio to the first baseline"]
    return Table("Errors", columns, rows, digits=4)


def means(errors: Mapping[str, np.ndarray], rows: np.ndarray | None = None) -> dict[str, float]:
    """Return plain means of (N,) errors, over some rows; errors that are NaN nowhere finite go."""
    found = {}
    for key, values in errors.items():
        if key.startswith("_"):
            continue
        part = values if rows is None else values[rows]
        mean = float(part.mean()) if len(part) else float("nan")
        if np.isfinite(mean):
            found[key] = mean
    if "statistical/photo_l1" in found and found["statistical/photo_l1"] > 0:
        found["residual_gain"] = 1 - found["photo_l1"] / found["statistical/photo_l1"]
    return found
