"""What the framework costs: python bench/training_step.py [--quick] [overrides ...].

One training step under Lightning (callbacks, logging and all, as `train.py` runs it) against the
same network, targets, loss and optimiser in a bare PyTorch loop over the same loader; the two
alternate in blocks, and the median of the blocks' ratios is printed. Waiting is the share of
Lightning's step in which the loader was not ready.
"""

# ruff: noqa: I001
from __future__ import annotations

import lit_face  # noqa: F401  (first: arms the torchvision repair)

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lit_face.cli.training import prepare
from lit_face.config import check_config, instantiate
from lit_face.config.composition import compose_config


class Timer(pl.Callback):
    """Times each step, and in it the wait for the batch."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.waits: list[float] = []
        self._last = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clock."""
        self._last = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        """The batch is here."""
        self._begin = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """The step is done."""
        now = time.perf_counter()
        self.steps.append(now - self._last)
        self.waits.append(self._begin - self._last)
        self._last = now


def lightning_block(
    config: dict[str, Any], data: Any, method: Any, steps: int, folder: Path
) -> Timer:
    """Train some steps under Lightning, with the run's callbacks but checkpoints and pictures."""
    timer = Timer()
    callbacks = [
        instantiate(node)
        for name, node in config["callbacks"].items()
        if name in ("throughput", "guard")
    ]
    trainer: pl.Trainer = instantiate(
        {**config["trainer"], "max_steps": steps, "limit_val_batches": 0, "max_epochs": -1},
        callbacks=[*callbacks, timer],
        logger=pl.loggers.CSVLogger(str(folder)),
        enable_checkpointing=False,
    )
    trainer.fit(method, datamodule=data)
    return timer


def bare_block(data: Any, method: Any, steps: int, device: str) -> list[float]:
    """Train some steps in a plain loop."""
    method.to(device).train()
    optimizer = method.make_optimizer(method.network.parameters())
    method.log = lambda *_, **__: None
    times, done, last = [], 0, time.perf_counter()
    while done < steps:
        for batch in data.train_dataloader():
            faces = data.transform(batch.to(device), is_training=True)
            optimizer.zero_grad()
            loss = method.training_step(faces, 0)
            loss.backward()
            optimizer.step()
            if device != "cpu":
                torch.cuda.synchronize()
            now = time.perf_counter()
            times.append(now - last)
            last, done = now, done + 1
            if done == steps:
                break
    del method.log
    return times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter blocks")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("overrides", nargs="*", help="as for train.py")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pl.utilities.rank_zero.rank_zero_module.log.setLevel("WARNING")
    quiet = ["trainer.enable_progress_bar=false"]
    config = check_config(compose_config("train", [*quiet, *options.overrides]))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = prepare(config)
    data.setup("fit")
    method = instantiate(config["method"], morphable_model=data.morphable_model)
    steps, blocks = (12, 3) if options.quick else (30, 7)
    ratios, waits, ours, theirs = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(blocks + 1):
            timer = lightning_block(config, data, method, steps, Path(folder))
            bare = bare_block(data, method, steps, device)
            if number == 0:
                continue  # warm-up
            step, plain = statistics.median(timer.steps[2:]), statistics.median(bare[2:])
            ours.append(step)
            theirs.append(plain)
            ratios.append(step / plain)
            waits.append(statistics.median(timer.waits[2:]) / step)
    print(f"{type(method).__name__}, {config['data']['image_size']} px, batch {data.batch_size}, ")
    print(f"{device}, {options.threads} thread(s), {blocks} blocks of {steps} steps, medians")
    print(f"Lightning step {1e3 * statistics.median(ours):9.1f} ms")
    print(f"bare step      {1e3 * statistics.median(theirs):9.1f} ms")
    print(f"overhead       {100 * (statistics.median(ratios) - 1):9.1f} %")
    print(f"waiting        {100 * statistics.median(waits):9.1f} % of a step")


if __name__ == "__main__":
    main()
