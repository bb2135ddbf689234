"""What a subject costs, stage by stage: python bench/multiview.py [--size paper] [--device cuda].

A subject of the miniature with 10 views goes through the chain of `reconstruct.py
method=uv_implicit` with untrained networks (their time does not depend on weights): seconds, and
the largest memory of the process (and of the accelerator) in each stage.

--size miniature: photos of 648 x 432 pixels (features of half of that), maps of 128 texels, 65
planes, the networks of `experiment=..._mini`: everything is run.
--size paper: photos of 1296 x 864, maps of 256 texels, 201 planes, the released networks, a texture
of 1024 texels, triangles split three times. On a CPU the cost volume is computed of 1 texel in 64,
the regulariser is run on a sixteenth of the map and the relief on a sixteenth of the texture; these
are multiplied and marked `part`. Their memory is that of the part.
"""

# ruff: noqa: I001
from __future__ import annotations

import lit_face  # noqa: F401  (first: arms the torchvision repair)

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lit_face.data.miniature_facescape import miniature_facescape
from lit_face.inference.multiview.chain import ChainOptions, MultiviewChain
from lit_face.inference.multiview.stages import metered
from lit_face.inference.multiview.subject import find_subject
from lit_face.inference.multiview.subject_run import SubjectRun
from lit_face.methods.displacement import DisplacementPredictor, GlobalGenerator
from lit_face.methods.uv_implicit import ImplicitNetwork, ImplicitSurface
from lit_face.methods.uv_regularize import UNetRegularizer, UVRegularizeModule
from lit_face.morphable_models.facescape import facescape

TEXELS, MAP, TEXTURE = 64, 16, 16  # what is computed on a CPU at the paper's size: one in so many


@dataclass(frozen=True)
class Size:
    """Of photos, maps and networks."""

    long_side: int
    image_scale: float
    uv_size: int
    planes: int
    interval: float
    network: dict[str, Any]
    regularizer: int
    generator: dict[str, int]
    texture: int
    relief: int
    subdivisions: int


SIZES = {
    "miniature": Size(
        648, 0.5, 128, 65, 0.25,
        {"width": 16, "channels": 64, "hidden": (256, 128, 64), "groups": 16}, 4,
        {"width": 12, "downs": 2, "blocks": 3}, 1024, 512, 2,
    ),
    "paper": Size(
        1296, 1.0, 256, 201, 0.2, {}, 1, {"width": 64, "downs": 4, "blocks": 9}, 1024, 1024, 3
    ),
}  # fmt: skip


def chain_of(size: Size, device: str) -> MultiviewChain:
    """Build the chain without training."""
    torch.manual_seed(0)
    network = ImplicitNetwork(**size.network)
    method = UVRegularizeModule(
        ImplicitSurface(network, size.planes, size.interval, crop=None),
        UNetRegularizer(size.regularizer),
        torch.optim.Adam,
    )
    data = {"root": "", "uv_size": size.uv_size, "image_scale": size.image_scale, "views": 10}
    options = ChainOptions(
        long_side=size.long_side,
        texture_size=size.texture,
        subdivisions=size.subdivisions,
        device=device,
    )
    predictor = DisplacementPredictor(GlobalGenerator(**size.generator))
    return MultiviewChain(
        method, {**data, "miniature": "default"}, "untrained", facescape(), options, predictor,
        size.relief,
    )  # fmt: skip


class Skipped(torch.nn.Module):
    """Stands for a network whose time is measured on a part of its work."""

    def __init__(self, network: Any, result: Any) -> None:
        super().__init__()
        self.network, self.result = network, result

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def forward(self, *given: Any) -> Any:
        """Return what has the shape of the network's result."""
        return self.result(*given)


def run_subject(chain: MultiviewChain, folder: Path) -> tuple[SubjectRun, list[tuple[Any, ...]]]:
    """Take the first held-out subject of the miniature through a chain; return rows of a table."""
    subject = find_subject(miniature_facescape() / "imgs" / "331" / "1_neutral")
    subject = replace(subject, scan=None)  # its comparison is no part of use
    run = SubjectRun(chain, subject, folder, lambda *progress: None)
    rows = [
        (stage.name, stage.seconds, stage.peak_mib, stage.device_mib, "")
        for stage in run.run().stages
    ]
    return run, rows


@torch.no_grad()
def measured_parts(chain: MultiviewChain, size: Size, folder: Path) -> list[tuple[Any, ...]]:
    """Run the chain with its networks skipped, and these on a part; return rows of a table."""
    method, relief = chain.method, chain.relief
    implicit, network = method.implicit, method.network
    method.implicit = Skipped(
        implicit, lambda *given: torch.rand(1, size.planes, size.uv_size, size.uv_size)
    )
    method.network = Skipped(network, lambda volume: volume)
    chain.relief = Skipped(relief, lambda texture: torch.zeros_like(texture[:, :1]))
    run, rows = run_subject(chain, folder)
    rows = [(*row[:4], "without its network" if row[0] in _NETWORKS else "") for row in rows]
    batch = run._batch()
    with metered() as look:
        implicit.look(batch)
    rows.append(("features", *look, "10 photos"))
    maps = batch.uv_maps or {}
    grid = torch.zeros_like(maps["mask"])
    step = int(TEXELS**0.5)
    grid[..., ::step, ::step] = 1
    whole = maps["mask"].sum().item()
    maps["mask"] = maps["mask"] * grid
    with metered() as cost:
        implicit(batch)
    share = whole / maps["mask"].sum().item()
    seconds = (cost[0] - look[0]) * share
    rows.append(("cost volume", seconds, *cost[1:], f"part: 1 texel in {share:.0f}"))
    side = size.uv_size // int(MAP**0.5)
    with metered() as smooth:
        network.eval()(torch.rand(1, size.planes, side, side))
    rows.append(("regulariser", smooth[0] * MAP, *smooth[1:], f"part: 1/{MAP} of the map"))
    side = size.relief // int(TEXTURE**0.5)
    with metered() as fine:
        relief(torch.rand(1, 3, side, side))
    rows.append(("relief", fine[0] * TEXTURE, *fine[1:], f"part: 1/{TEXTURE} of the texture"))
    return rows


_NETWORKS = ("implicit", "regularized", "displacement")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="miniature")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    size = SIZES[given.size]
    chain = chain_of(size, given.device)
    with tempfile.TemporaryDirectory() as name:
        if given.size == "paper" and given.device == "cpu":
            rows = measured_parts(chain, size, Path(name))
        else:
            _, rows = run_subject(chain, Path(name))
    print(f"{given.size}, {given.device}, {torch.get_num_threads()} thread(s)")
    print(f"{'stage':14} {'seconds':>9} {'MiB':>7} {'device MiB':>11}")
    for stage, seconds, memory, device_memory, note in rows:
        print(f"{stage:14} {seconds:9.1f} {memory:7.0f} {device_memory:11.0f}  {note}")
    print(f"{'all':14} {sum(row[1] for row in rows):9.1f}")


if __name__ == "__main__":
    main()
