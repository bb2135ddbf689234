"""FaceNet's published weights, fetched when asked for."""

from __future__ import annotations

import http.client
import logging
import shutil
import urllib.request
from pathlib import Path

from lit_face.io.files import atomic_write, cache_root

log = logging.getLogger("lit_face")

# The address that facenet-pytorch's README gives.
FACENET_URL = (
    "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"
    "20180402-114759-vggface2.pt"
)
_TIMEOUT_S = 60


def facenet_file(cache_folder: str | Path | None = None) -> Path:
    """Return the file of FaceNet's weights, fetching it on first use.

    Its release has no published digest; a cut file is refused by its length here, a wrong one when
    its weights are read.

    Args:
        cache_folder: see `lit_face.io.files.cache_root`.

    Raises:
        RuntimeError: it cannot be fetched; says from where, and what to do.
    """
    target = cache_root(cache_folder) / "embedders" / FACENET_URL.rsplit("/", 1)[1]
    if target.is_file():
        return target
    log.info("Fetching FaceNet's weights (107 MB) from %s to %s (once)", FACENET_URL, target)
    try:
        with (
            urllib.request.urlopen(FACENET_URL, timeout=_TIMEOUT_S) as response,
            atomic_write(target) as temporary,
        ):
            with temporary.open("wb") as file:
                shutil.copyfileobj(response, file)
            expected, found = response.headers.get("Content-Length"), temporary.stat().st_size
            if expected is not None and int(expected) != found:
                raise OSError(f"{found} of {expected} bytes came")
    except (OSError, http.client.HTTPException) as error:
        raise RuntimeError(
            f"embedder.download: {FACENET_URL} cannot be fetched ({error}). Fetch it by other "
            "means and give embedder.weights=FILE."
        ) from error
    return target
