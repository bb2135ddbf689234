"""The training task."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lit_face.cli.launch import launch_ranks, local_processes, with_strategy
from lit_face.cli.start import user_errors
from lit_face.cli.stored_config import override_stored
from lit_face.config import instantiate
from lit_face.config.run_folder import method_name, point_latest
from lit_face.io.checkpoints import find_checkpoint, load_weights, read_checkpoint
from lit_face.io.start_weights import filled_by_checkpoint

log = logging.getLogger("lit_face")


def config_from(overrides: Sequence[str]) -> tuple[dict[str, Any], Path] | None:
    """Read the config of the run that `resume=` names, with the other overrides applied."""
    given = dict(o.split("=", 1) for o in overrides if "=" in o)
    if given.get("resume") in (None, "", "null"):
        return None
    file = find_checkpoint(given["resume"])
    checkpoint = read_checkpoint(file)
    stored = {**checkpoint["lit_face"]["config"], "trusted_modules": []}  # never the file's own
    config = override_stored(stored, overrides, ignore={"resume"})
    folder = file.resolve().parent.parent
    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(
            f"resume={given['resume']}: {folder} is no run folder (no config.yaml). A run goes on "
            "in its own folder; keep the checkpoint in its checkpoints/."
        )
    config["resume"] = str(file.resolve())
    return config, folder


def run(config: dict[str, Any], folder: Path) -> float | None:
    """Train as the plain config says; return the monitored metric for sweepers."""
    configure_logging(folder)
    with user_errors():
        data = prepare(config)
    point_latest(folder, method_name(config["method"]["_target_"]))
    if local_processes(config["trainer"]) > 1:
        return launch_ranks(folder, config)
    return fit(config, folder, data)


def prepare(config: Mapping[str, Any]) -> Any:
    """Build the datamodule and let it find everything wrong with its files."""
    import pytorch_lightning as pl

    pl.seed_everything(config["seed"], workers=True, verbose=False)
    trusted = tuple(config.get("trusted_modules") or ())
    model = instantiate(config["morphable_model"], trusted_modules=trusted)
    data = instantiate(
        config["data"], trusted_modules=trusted, morphable_model=model, seed=config["seed"]
    )
    data.prepare_data()
    return data


def fit(config: dict[str, Any], folder: Path, data: Any) -> float | None:
    """Train in this process; it may be one rank of several."""
    import pytorch_lightning as pl

    trusted = tuple(config.get("trusted_modules") or ())
    with user_errors():
        _leave_cores_to_workers(config)
        data.setup("fit")
        with filled_by_checkpoint() if config.get("resume") else nullcontext():
            method = instantiate(
                config["method"], trusted_modules=trusted, morphable_model=data.morphable_model
            )
        if config.get("weights"):
            file = find_checkpoint(config["weights"], prefer="best")
            load_weights(method, read_checkpoint(file)["state_dict"], file)
        trainer: pl.Trainer = instantiate(
            with_strategy(config["trainer"], getattr(method, "freezes_weights", False)),
            trusted_modules=trusted,
            callbacks=_callbacks(config, trusted),
            logger=build_loggers(config, trusted),
        )
    for logger in trainer.loggers:
        logger.log_hyperparams(config)
    if trainer.is_global_zero:
        log.info(_summary(config, trainer, method, data, folder))
    try:
        trainer.fit(method, datamodule=data, ckpt_path=config.get("resume"), weights_only=True)
    finally:
        close_loggers(trainer)
    metric = trainer.callback_metrics.get(config["monitor"])
    if trainer.is_global_zero:
        log.info("Finished after %d steps: %s", trainer.global_step, folder)
    return None if metric is None else float(metric)


def _leave_cores_to_workers(config: Mapping[str, Any]) -> None:
    """On a CPU, compute on the cores that the loader's processes leave; OMP_NUM_THREADS wins.

    Threads that wait for each other on busy cores make a step several times slower.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ and not torch.cuda.is_available():
        workers = int(config["data"].get("workers") or 0)
        torch.set_num_threads(max(1, (os.cpu_count() or 1) - workers))


def close_loggers(trainer: Any) -> None:
    """Finish wandb, or the next run of this process writes into this one's."""
    from pytorch_lightning.loggers import WandbLogger

    if any(isinstance(logger, WandbLogger) for logger in trainer.loggers):
        import wandb

        wandb.finish()


def _callbacks(config: Mapping[str, Any], trusted: tuple[str, ...]) -> list[Any]:
    from callbacks import ConfigInCheckpoint

    built = [
        instantiate(node, trusted_modules=trusted)
        for node in (config.get("callbacks") or {}).values()
        if node is not None
    ]
    return [ConfigInCheckpoint({**config, "resume": None, "weights": None}), *built]


def build_loggers(config: Mapping[str, Any], trusted: tuple[str, ...] = ()) -> list[Any]:
    """Build every logger of the config."""
    return [
        instantiate(node, trusted_modules=trusted)
        for node in (config.get("logger") or {}).values()
        if node is not None
    ]


def configure_logging(folder: Path) -> None:
    """Log to the terminal and to the run's train.log, on rank 0."""
    if int(os.environ.get("RANK", "0")) > 0:
        return
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    log.setLevel(logging.INFO)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    log.propagate = False
    for handler in (logging.StreamHandler(), logging.FileHandler(folder / "train.log")):
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)


def _summary(config: Mapping[str, Any], trainer: Any, method: Any, data: Any, folder: Path) -> str:
    weights = sum(p.numel() for p in method.parameters())
    batch = config["data"]["batch_size"] * trainer.world_size * trainer.accumulate_grad_batches
    return "\n".join(
        [
            "Training",
            f"  method    {type(method).__name__}, {weights / 1e6:.2f} M weights",
            f"  data      {data.describe()}",
            f"  batch     {batch} images a step over {trainer.world_size} device(s)",
            f"  device    {trainer.accelerator.__class__.__name__}, {trainer.precision}",
            f"  folder    {folder}"
            + (f" (resumed from {config['resume']})" * bool(config.get("resume"))),
        ]
    )
