"""One process of several: `python -m lit_face.cli.rank RUN_FOLDER` (started by `launch`)."""

from __future__ import annotations

import sys
from pathlib import Path

from lit_face.cli.training import configure_logging, fit, prepare
from lit_face.config.run_folder import read_run_config


def main() -> None:
    """Train this process's share of the run."""
    folder = Path(sys.argv[1])
    config = read_run_config(folder)
    configure_logging(folder)
    fit(config, folder, prepare(config))


if __name__ == "__main__":
    main()
