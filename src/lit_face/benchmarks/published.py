"""Published numbers, quoted with where they were read."""

from __future__ import annotations

# AFLW2000-3D, 68 points, 2D, original annotation, percent of sqrt(width * height):
# method -> ([0, 30], (30, 60], > 60, mean of the bins).
AFLW2000_SPARSE_2D: dict[str, tuple[float | None, float | None, float | None, float]] = {
    "ESR": (4.60, 6.70, 12.67, 7.99),
    "Dense Corr. (Yu 2017)": (3.62, 6.06, 9.56, 6.41),
    "3DDFA + SDM (CVPR 2016)": (3.43, 4.24, 7.17, 4.94),
    "3DSTN": (3.15, 4.33, 5.98, 4.49),
    "3DDFA (TPAMI)": (2.84, 3.57, 4.96, 3.79),
    "3D-FAN": (3.16, 3.53, 4.60, 3.76),
    "PRN": (2.75, 3.51, 4.61, 3.62),
    "3DDFA_V2 (M+R)": (2.75, 3.49, 4.53, 3.59),
    "2DASL": (2.75, 3.46, 4.45, 3.55),
    "3DDFA_V2 (M+R+S)": (2.63, 3.42, 4.48, 3.51),
    "SADRNet": (None, None, None, 3.46),
    "SynergyNet": (2.65, 3.30, 4.27, 3.41),
}
AFLW2000_SPARSE_2D_SOURCE = (
    "Rows as printed in the table of SynergyNet (Wu et al., 3DV 2021); SADRNet's mean from a "
    "leaderboard. Real AFLW2000-3D, original annotation."
)
# Plain means over all images, percent: 68 points 2D, 68 points 3D, all points 2D, all points 3D.
PRN_PLAIN_MEANS = (3.26, 4.70, 3.17, 4.40)
PRN_PLAIN_MEANS_SOURCE = "PRNet issue 145, quoting the paper (Feng et al., ECCV 2018)."
# Reconstruction error on AFLW2000-3D, percent of the outer interocular distance.
RECONSTRUCTION = {"PRN": 3.96, "3DDFA_V2": 4.18, "SADRNet": 3.25}
