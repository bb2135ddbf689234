"""Full precision for coordinates, whatever the networks run in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor


@contextmanager
def fp32_region(*device_types: str) -> Iterator[None]:
    """Switch autocast off inside; serves as a context and, called, as a decorator.

    Callers cast network outputs with `.float()` before they enter: in bf16 a coordinate of
    200.3 px is 200.0, and a 3DMM decode is off by a tenth of a millimetre.

    Args:
        device_types: devices to switch it off for; CPU and CUDA are always among them.
    """
    with ExitStack() as stack:
        for device_type in {"cpu", "cuda", *device_types}:
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        yield


def check_precision(name: str, tensor: Tensor) -> None:
    """Refuse coordinates of half precision (or integers).

    Raises:
        TypeError: names the argument and its dtype.
    """
    if tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"{name} is {tensor.dtype}; geometry needs float32 or float64. "
            "Cast network outputs with .float() first."
        )
