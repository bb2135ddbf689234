"""Benchmarks: a dataset, a protocol and the numbers of a method under it."""

from lit_face.benchmarks.aflw2000 import AFLW2000Benchmark
from lit_face.benchmarks.celeba import CelebASkinBenchmark
from lit_face.benchmarks.facescape import FaceScapeBenchmark
from lit_face.benchmarks.ffhq_photometric import FFHQPhotometricBenchmark

__all__ = [
    "AFLW2000Benchmark",
    "CelebASkinBenchmark",
    "FFHQPhotometricBenchmark",
    "FaceScapeBenchmark",
]
