"""The tables of AFLW2000-3D's report."""

from __future__ import annotations

from lit_face.benchmarks.published import (
    AFLW2000_SPARSE_2D,
    AFLW2000_SPARSE_2D_SOURCE,
    PRN_PLAIN_MEANS,
    PRN_PLAIN_MEANS_SOURCE,
    RECONSTRUCTION,
)
from lit_face.reporting.result import Table

_ROWS = {
    "nme_2d_sparse": "68 points, 2D, mean of yaw bins (%)",
    "nme_2d_sparse_plain": "68 points, 2D, plain mean (%)",
    "nme_2d_sparse_reannotated": "68 points, 2D, re-annotated, mean of yaw bins (%)",
    "nme_3d_sparse": "68 points, 3D (%)",
    "nme_2d_dense": "all points, 2D (%)",
    "nme_3d_dense": "all points, 3D (%)",
    "nme_reconstruction": "reconstruction, ICP (% of interocular)",
    "nme_reconstruction_corresponding": "reconstruction, corresponding points (% of interocular)",
    "pose_mae_deg": "head pose, mean absolute error (degrees)",
}
_BINS = ("0_30", "30_60", "60_90")


def result_tables(
    label: str, summary: dict[str, float], baseline: dict[str, float], is_miniature: bool
) -> list[Table]:
    """Lay out a summary: all errors, sparse 2D by yaw beside published rows, head pose by axis."""
    overview = Table(
        "Errors",
        ["error", label, "mean face", "ratio"],
        [
            [text, summary[key], baseline[key], summary[key] / baseline[key]]
            for key, text in _ROWS.items()
            if key in summary
        ],
    )
    if not is_miniature:
        published = dict(
            zip(
                ("nme_2d_sparse_plain", "nme_3d_sparse", "nme_2d_dense", "nme_3d_dense"),
                PRN_PLAIN_MEANS,
                strict=True,
            ),
            nme_reconstruction=RECONSTRUCTION["PRN"],
        )
        overview.columns.append("PRN, published")
        keys = [key for key in _ROWS if key in summary]
        for key, row in zip(keys, overview.rows, strict=True):
            row.append(published.get(key))
        overview.note = f"Published: {PRN_PLAIN_MEANS_SOURCE}"
    by_yaw = Table(
        "68 points, 2D, by yaw (%)",
        ["method", "0 to 30", "30 to 60", "60 to 90", "mean"],
        [
            [name, *(values[f"nme_2d_sparse_{b}"] for b in _BINS), values["nme_2d_sparse"]]
            for name, values in ((label, summary), ("mean face", baseline))
        ],
    )
    if is_miniature:
        by_yaw.note = (
            "Published numbers of the real dataset appear here when benchmark.root is set."
        )
    else:
        by_yaw.rows += [[f"{name} (published)", *row] for name, row in AFLW2000_SPARSE_2D.items()]
        by_yaw.note = AFLW2000_SPARSE_2D_SOURCE
    axes = ("pitch", "yaw", "roll")
    pose = Table(
        "Head pose, mean absolute error (degrees)",
        ["method", *axes, "mean"],
        [
            [name, *(values[f"pose_{a}_mae_deg"] for a in axes), values["pose_mae_deg"]]
            for name, values in ((label, summary), ("mean face", baseline))
        ],
    )
    return [overview, by_yaw, pose]
