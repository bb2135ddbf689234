"""The table of `benchmark=celeba`."""

from __future__ import annotations

from collections.abc import Mapping

from lit_face.benchmarks.celeba_judges import TRAINED
from lit_face.reporting.result import Table

_ROWS = {
    "photo_l1": "picture, L1, sRGB",
    "photo_l21": "picture, L2,1 (mean length of a pixel's difference), sRGB",
    "psnr": "picture, PSNR (dB, higher is better)",
    "ssim": "picture, SSIM (higher is better)",
    "coverage": "share of the skin mask that is rendered (higher is better)",
    "identity_cosine": "identity, cosine of photo and pasted picture (higher is better)",
    "identity_cosine_std": "the same, standard deviation",
    "identity_cosine_render": "identity, cosine of the faces alone on grey (higher is better)",
    "identity_cosine_render_std": "the same, standard deviation",
    "albedo": "albedo, RMSE, linear",
    "albedo_gain_free": "albedo, RMSE after a gain of each channel",
    "albedo_shown": "albedo where the photo shows the skin, RMSE",
    "albedo_hidden": "albedo where it does not, RMSE",
    "albedo_std": "albedo, std over pictures of a person",
    "albedo_std_share": "the same, share of the std over all pictures",
}
_NO_RATIO = ("psnr", "ssim", "coverage", "identity_")


def errors_table(summaries: Mapping[str, Mapping[str, float]]) -> Table:
    """Lay out summaries by column; the last column is the first one over the second one."""
    (first, values), *others = summaries.items()
    single = {
        key: _of_judge(key)
        for key in values
        if key.startswith("identity_cosine_") and key not in _ROWS
    }
    rows = []
    for key, text in (_ROWS | single).items():
        if not any(key in summary for summary in summaries.values()):
            continue
        own, other = values.get(key), others[0][1].get(key) if others else None
        is_error = not key.startswith(_NO_RATIO) and own is not None and other
        ratio = own / other if is_error and own is not None and other else None
        rows.append([text, own, *(summary.get(key) for _, summary in others), ratio])
    columns = ["error", first, *(name for name, _ in others)]
    if others:
        columns.append(f"ratio to {others[0][0]}")
    else:
        rows = [row[:-1] for row in rows]
    return Table("Errors", columns, rows, digits=4)


def _of_judge(key: str) -> str:
    """Name the row of one judge."""
    judge = key.removeprefix("identity_cosine_")
    what = "faces alone" if judge.startswith("render_") else "pasted"
    name = judge.removeprefix("render_")
    plain = name.removesuffix(TRAINED)
    return f"identity, {what}, by {plain}" + ", which trained the method" * (plain != name)


def judges_table(skill: Mapping[str, float], trained: frozenset[str]) -> Table:
    """Say how well each judge tells the held-out people's photos apart."""
    rows = [
        [name, auc, "took part in training" if name in trained else "independent"]
        for key, auc in skill.items()
        for name in [key.removeprefix("judge_auc_")]
    ]
    note = "Pairs of photos of one person against pairs of two: 1 is perfect, 0.5 is chance."
    return Table("Judges", ["judge", "AUC on these photos", ""], rows, note, 4)
