"""Trained models as folders of plain data: config.yaml, model.safetensors, NOTICE.txt.

Nothing in such a folder is executed when it is read. Building the model from the config is the
business of `lit_face.inference.portable`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from lit_face.io.files import atomic_folder

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, WEIGHTS, NOTICE = "config.yaml", "model.safetensors", "NOTICE.txt"
_FORMAT = 1
_HEADER = '# A trained lit_face model. In Python: lit_face.load("this folder")\n'


class PortableModel(NamedTuple):
    """What a portable folder holds.

    Attributes:
        config: plain values with `_target_`, from which an empty predictor is built.
        state: name -> tensor, on the CPU.
        record: where the weights come from: licence, data, numbers, `sha256` of model.safetensors.
    """

    config: dict[str, Any]
    state: dict[str, Tensor]
    record: dict[str, Any]


def is_portable_folder(path: str | Path) -> bool:
    """Whether a path is a folder that `read_portable` takes."""
    return (Path(path) / CONFIG).is_file() and (Path(path) / WEIGHTS).is_file()


def write_portable(
    folder: str | Path,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    record: Mapping[str, Any],
) -> Path:
    """Write a portable folder, all of it or nothing.

    Args:
        folder: must not exist, or be empty.
        config: see `PortableModel`.
        state: see `PortableModel`.
        record: plain values. `notice`, if given, is the text that must travel with the weights
            (licence, attribution) and becomes NOTICE.txt.

    Returns:
        The folder.

    Raises:
        FileExistsError: there is something already.
    """
    from safetensors.torch import save

    from lit_face import __version__

    target = Path(folder)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise FileExistsError(f"{target} exists already; delete it or choose another folder.")
    # Clones: safetensors takes no tensors that share memory, as layers share a mesh's Laplacian.
    data = save({name: value.detach().cpu().clone().contiguous() for name, value in state.items()})
    plain = {key: value for key, value in record.items() if key != "notice"}
    plain["sha256"] = hashlib.sha256(data).hexdigest()
    content = {
        "format": _FORMAT, "lit_face": __version__, "predictor": dict(config), "record": plain,
    }  # fmt: skip
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    if target.is_dir():
        target.rmdir()
    with atomic_folder(target) as temporary:
        (temporary / WEIGHTS).write_bytes(data)
        (temporary / CONFIG).write_text(_HEADER + text)
        if record.get("notice"):
            (temporary / NOTICE).write_text(str(record["notice"]).rstrip() + "\n")
    return target


def read_portable(folder: str | Path) -> PortableModel:
    """Read a portable folder.

    Raises:
        FileNotFoundError: a file of it is missing.
        ValueError: a file is damaged or of another format; the message names it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    folder = Path(folder)
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} is no portable model: it has no {' and no '.join(missing)}. "
            "python export.py ckpt=runs/latest out=FOLDER writes one."
        )
    content = _read_config(folder / CONFIG)
    data = (folder / WEIGHTS).read_bytes()
    record = dict(content.get("record") or {})
    if record.get("sha256") != hashlib.sha256(data).hexdigest():
        raise ValueError(
            f"{folder / WEIGHTS} is not the file that {folder / CONFIG} describes (its sha256 "
            "differs): it is cut or was replaced. Copy the folder again."
        )
    try:
        return PortableModel(dict(content["predictor"]), load(data), record)
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} cannot be read: {error}.") from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not plain YAML: {reason}.") from error
    if not isinstance(content, dict) or not isinstance(content.get("predictor"), dict):
        raise ValueError(f"{path} is not the config of a portable model: no key 'predictor'.")
    if content.get("format") != _FORMAT:
        raise ValueError(
            f"{path} has format {content.get('format')}; this lit_face reads format {_FORMAT}."
        )
    return content
