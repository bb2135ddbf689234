"""PRN's network alone, as trained and as used (fused), beside the same layers in TensorFlow.

Usage: python bench/tensorflow_network.py [--threads 1]     (needs TensorFlow, the extra [convert])

Milliseconds an image of 256 x 256, float32, inference, the fastest of several runs.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import lit_face  # noqa: F401  (first: arms the torchvision repair)

WIDTH, DEPTH = 16, 5


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf
    import torch

    from lit_face.methods.prn import PRNNetwork

    torch.set_num_threads(threads)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    network = PRNNetwork(WIDTH, DEPTH).eval()
    fused = network.fused()
    graph = tf.function(tensorflow_network(tf), jit_compile=False)
    print(f"{'batch':>6}{'as trained':>12}{'in use':>10}{'TensorFlow':>12}   ms an image")
    for batch in (1, 16):
        image = np.random.default_rng(0).random((batch, 256, 256, 3), dtype=np.float32)
        tensor = torch.from_numpy(image).permute(0, 3, 1, 2).contiguous()
        constant = tf.constant(image)

        def trained(tensor: torch.Tensor = tensor) -> None:
            with torch.inference_mode():
                network(tensor)

        def used(tensor: torch.Tensor = tensor) -> None:
            with torch.inference_mode():
                fused(tensor.contiguous(memory_format=torch.channels_last))

        def theirs(constant: Any = constant) -> None:
            graph(constant, training=False)

        times = (fastest(run) / batch for run in (trained, used, theirs))
        print("{:6}{:12.0f}{:10.0f}{:12.0f}".format(batch, *times))


def fastest(run: Callable[[], None], repeats: int = 5) -> float:
    """Return milliseconds of the fastest run after a first one."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def tensorflow_network(tf: Any) -> Any:
    """Build the layers of Feng et al. (2018): 4 x 4 kernels, ten residual blocks, 17 transposed."""
    layers = tf.keras.layers

    def unit(features: Any, kind: Any, channels: int, kernel: int, stride: int) -> Any:
        features = kind(channels, kernel, stride, padding="same", use_bias=False)(features)
        return layers.ReLU()(layers.BatchNormalization(epsilon=1e-3)(features))

    def residual(features: Any, channels: int, stride: int) -> Any:
        shortcut = features
        if stride > 1 or features.shape[-1] != channels:
            shortcut = layers.Conv2D(channels, 1, stride, use_bias=False)(features)
        main = unit(features, layers.Conv2D, channels // 2, 1, 1)
        main = unit(main, layers.Conv2D, channels // 2, 4, stride)
        main = layers.Conv2D(channels, 1, use_bias=False)(main)
        total = layers.BatchNormalization(epsilon=1e-3)(layers.Add()([shortcut, main]))
        return layers.ReLU()(total)

    image = layers.Input((256, 256, 3))
    features = unit(image, layers.Conv2D, WIDTH, 4, 1)
    for level in range(1, DEPTH + 1):
        features = residual(residual(features, WIDTH << level, 2), WIDTH << level, 1)
    features = unit(features, layers.Conv2DTranspose, WIDTH << DEPTH, 4, 1)
    for level in reversed(range(DEPTH)):
        features = unit(features, layers.Conv2DTranspose, WIDTH << level, 4, 2)
        for _ in range(2 if level > 1 else 1):
            features = unit(features, layers.Conv2DTranspose, WIDTH << level, 4, 1)
    for _ in range(2):
        features = unit(features, layers.Conv2DTranspose, 3, 4, 1)
    features = layers.Conv2DTranspose(3, 4, 1, padding="same", use_bias=False)(features)
    features = layers.BatchNormalization(epsilon=1e-3)(features)
    return tf.keras.Model(image, tf.keras.activations.sigmoid(features))


if __name__ == "__main__":
    main()
