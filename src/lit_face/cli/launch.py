"""Several processes on this machine, every one on the run's resolved config.

Lightning's own launcher repeats the command line in each process; in a sweep the processes then
start sweeps of their own and train different jobs. Here torch's launcher starts each process on
`<run>/config.yaml`, which is the same for all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lit_face.config.files import config_folder


def local_processes(trainer: Mapping[str, Any]) -> int:
    """Return how many processes to start here; 1 where something else starts them already."""
    started_elsewhere = "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", 1)) > 1
    if started_elsewhere or trainer.get("fast_dev_run") is None:
        return 1
    devices = trainer.get("devices", 1)
    if isinstance(devices, list):
        return len(devices)
    if devices in ("auto", -1, "-1"):
        import torch

        wants_cpu = trainer.get("accelerator") == "cpu" or not torch.cuda.is_available()
        return 1 if wants_cpu else torch.cuda.device_count()
    return int(devices)


def with_strategy(trainer: Mapping[str, Any], freezes_weights: bool = False) -> dict[str, Any]:
    """Choose what `strategy: auto` means in one of several processes: what `trainer=ddp` says.

    Batch normalisation spans the processes, and buffers are not broadcast, so that ranks may
    validate unequal numbers of batches.

    Args:
        trainer: config of the trainer.
        freezes_weights: the method leaves weights out of some steps; without being told, DDP
            would wait for their gradients.
    """
    processes = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)
    trainer = dict(trainer)
    if processes > 1 and trainer.get("strategy") == "auto":
        chosen = yaml.safe_load((config_folder() / "trainer" / "ddp.yaml").read_text())
        trainer |= {"strategy": chosen["strategy"], "plugins": chosen["plugins"]}
    strategy = trainer.get("strategy")
    if freezes_weights and isinstance(strategy, Mapping):
        trainer["strategy"] = {"find_unused_parameters": True, **strategy}
    return trainer


def launch_ranks(folder: Path, config: Mapping[str, Any]) -> float | None:
    """Train in several processes and return the monitored metric.

    Raises:
        RuntimeError: a process failed; its own message stands above on the terminal.
    """
    processes = local_processes(config["trainer"])
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(processes), "-m", "lit_face.cli.rank", str(folder)),
    ]
    threads = max(1, (os.cpu_count() or 1) // processes)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    done = subprocess.run(command, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    written = folder / "metrics.json"
    if not written.is_file():  # callbacks.metrics_file=null
        return None
    value = json.loads(written.read_text()).get(config["monitor"])
    return None if value is None else float(value)
