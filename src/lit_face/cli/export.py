"""The export task."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_face.cli.start import user_errors
from lit_face.inference.loading import load_method, load_predictor, predictor_of, weights_of
from lit_face.io.portable_folder import NOTICE, is_portable_folder


def config_from(overrides: Sequence[str]) -> None:
    """Nothing: the config is composed."""
    return


def run(config: dict[str, Any], folder: Path) -> None:
    """Export as the plain config says."""
    out = Path(config["out"])
    with user_errors():
        predictor, record = _predictor(config)
        if config["licence"]:
            record["licence"] = config["licence"]
        if config["notice"]:
            record["notice"] = Path(config["notice"]).read_text()
        if out.suffix == ".onnx":
            from lit_face.inference.onnx import export_onnx

            difference = export_onnx(predictor, out, record)
            facts = f"checked in onnxruntime: {difference:.1e} px beside torch"
        else:
            from lit_face.inference.portable import save_portable

            save_portable(predictor, out, record)
            facts = f"{sum(t.numel() for t in predictor.parameters()):,} weights"
    sys.stdout.write(f"{out} ({facts})\npython reconstruct.py ckpt={out} input=PHOTOS out=FACES\n")


def _predictor(config: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the predictor, and what is known about its weights."""
    given, trusted = weights_of(config["ckpt"]), tuple(config["trusted_modules"] or ())
    if given.suffix == ".onnx":
        raise ValueError(f"ckpt={given} is an export already; give the checkpoint it was made of.")
    if is_portable_folder(given):
        predictor = load_predictor(given, trusted)
        record = {key: value for key, value in predictor.record.items() if key != "sha256"}
        notice = given / NOTICE
        return predictor, {**record, "notice": notice.read_text() if notice.is_file() else None}
    method, stored = load_method(given, trusted, compiled=False)
    record = {"checkpoint": given.name}
    record |= {part: _without_folders(stored[part]) for part in _DESCRIBED if part in stored}
    metrics = given.parent.parent / "metrics.json"
    if metrics.is_file():
        record["metrics"] = json.loads(metrics.read_text())
    return predictor_of(method, given), record


_DESCRIBED = ("method", "data", "morphable_model", "seed")  # parts of a training's config


def _without_folders(node: Any) -> Any:
    """Shorten absolute paths in a config to their last part: they are somebody's own."""
    if isinstance(node, Mapping):
        return {key: _without_folders(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_without_folders(value) for value in node]
    if isinstance(node, str) and Path(node).is_absolute():
        return Path(node).name
    return node
