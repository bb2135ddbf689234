"""Where the config files are and what their groups offer."""

from __future__ import annotations

from pathlib import Path


def config_folder() -> Path:
    """Return the folder of the config files, in a clone or in an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_conf", package.parents[1] / "conf"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"The config files are missing: neither {package / '_conf'} nor "
        f"{package.parents[1] / 'conf'} exists. Install lit_face again (pip install -e .)."
    )


def group_options(folder: Path) -> dict[str, dict[str, str]]:
    """Return group -> option -> its first comment line, for every group of config files."""
    return {
        group.name: {file.stem: _first_comment(file) for file in sorted(group.glob("*.yaml"))}
        for group in sorted(folder.iterdir())
        if group.is_dir() and group.name != "hydra"
    }


def _first_comment(file: Path) -> str:
    for line in file.read_text().splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ").strip()
    return ""


def is_trained(method: str) -> bool:
    """Whether a method of `conf/method` is for train.py; the others fit photos and go elsewhere.

    Only a training chooses data, schedule and monitor along with its method, at the config's top.
    """
    file = config_folder() / "method" / f"{method}.yaml"
    return file.read_text(encoding="utf-8").startswith("# @package _global_")
