"""A benchmark's result in the run's loggers: numbers, pictures, per-image table, the page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from lit_face.reporting.page import report_pictures
from lit_face.reporting.result import BenchmarkResult


def track(loggers: Iterable[Logger], result: BenchmarkResult, page: Path) -> None:
    """Send a result to every logger and close it.

    Args:
        loggers: CSV takes the numbers, TensorBoard pictures too, wandb also the table and the page.
        result: of the benchmark.
        page: the written `report.html`.
    """
    pictures = report_pictures(result)
    for logger in loggers:
        logger.log_metrics(result.metrics, step=0)
        if isinstance(logger, TensorBoardLogger):
            for caption, picture in pictures.items():
                logger.experiment.add_image(caption, picture, dataformats="HWC")
        if isinstance(logger, WandbLogger):
            _track_wandb(logger, result, pictures, page)
        if isinstance(logger, CSVLogger | TensorBoardLogger):
            logger.save()
        logger.finalize("success")


def _track_wandb(
    logger: WandbLogger, result: BenchmarkResult, pictures: dict[str, Any], page: Path
) -> None:
    import wandb

    for caption, picture in pictures.items():
        logger.log_image(caption.split(":")[0], [picture], caption=[caption])
    rows = [list(sample.values()) for sample in result.samples]
    logger.log_table("samples", columns=list(result.samples[0]), data=rows)
    logger.experiment.log({"report": wandb.Html(page.read_text(encoding="utf-8"), inject=False)})
    wandb.finish()
