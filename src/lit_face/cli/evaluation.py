"""The evaluation task."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from lit_face.cli.reconstruction import fitting_method
from lit_face.cli.start import user_errors
from lit_face.cli.training import build_loggers
from lit_face.config import instantiate
from lit_face.config.run_folder import write_metrics
from lit_face.inference.loading import choose_device, load_method
from lit_face.io.checkpoints import find_checkpoint


def config_from(overrides: Sequence[str]) -> None:
    """Nothing: the config is composed; the checkpoint brings only its method's."""
    return


def run(config: dict[str, Any], folder: Path) -> float | None:
    """Evaluate as the plain config says and write the report into `folder`."""
    trusted = tuple(config.get("trusted_modules") or ())
    with user_errors():
        device = choose_device(config["device"])
        truth = instantiate(config["morphable_model"], trusted_modules=trusted)
        method, stored, source = _method(config, truth, trusted)
        benchmark = instantiate(config["benchmark"], trusted_modules=trusted, morphable_model=truth)
    from lit_face.reporting.page import table_text, write_report
    from lit_face.reporting.tracking import track

    # Data of many views have no side of a crop.
    size = stored["data"].get("image_size", 0) if stored else method.image_size
    result = benchmark.run(method.eval().to(device), size, device)
    facts = [source, str(date.today()), f"device {device}"]
    page = write_report(result, folder, facts, {"evaluation": config, "training": stored})
    write_metrics(folder, result.metrics)
    loggers = build_loggers(config, trusted)
    for logger in loggers:
        logger.log_hyperparams(config)
    track(loggers, result, page)
    sys.stdout.write("\n\n".join(table_text(table) for table in result.tables))
    sys.stdout.write(f"\n\n{result.notes[0]}\n\nReport: {page}\n")
    return float(result.metrics[result.headline])


def _method(
    config: dict[str, Any], model: Any, trusted: tuple[str, ...]
) -> tuple[Any, dict[str, Any], str]:
    """Return what is evaluated, its training's config (empty for a fit) and a line about it.

    Raises:
        ValueError: neither or both of ckpt and method.
    """
    node, ckpt = config.get("method"), config["ckpt"]
    if (node is None) == (ckpt is None):
        found = "neither" if ckpt is None else "both"
        raise ValueError(
            f"Give a checkpoint, ckpt=RUN, or a method that fits photos, method=flame_fit; {found} "
            "is given."
        )
    if node is not None:
        return fitting_method(node, model, trusted), {}, f"method {node['_target_']}"
    file = find_checkpoint(ckpt, prefer="best")
    method, stored = load_method(file, trusted)
    return method, stored, f"checkpoint {file}"
