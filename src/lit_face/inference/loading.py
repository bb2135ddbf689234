"""Find, open and check trained weights; nothing in them is executed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import lit_face
from lit_face.config import check_config, instantiate
from lit_face.io.checkpoints import find_checkpoint, load_weights, read_checkpoint
from lit_face.io.portable_folder import is_portable_folder
from lit_face.io.start_weights import filled_by_checkpoint

if TYPE_CHECKING:
    from lit_face.inference.model import FaceModel


def load(path: str | Path, device: str = "auto", **options: Any) -> FaceModel:
    """Load a trained model for use: `lit_face.load(FILE).reconstruct(photos)`.

    Args:
        path: a checkpoint (.ckpt), a run's folder (its best checkpoint), a portable folder or an
            .onnx file (`export.py` writes both), or the name of a model that comes with lit_face:
            'prn_ict'.
        device: 'cpu', 'cuda', 'mps', or 'auto' for what is there.
        options: of `FaceModel`: finder, passes, precision, compile_network.

    Raises:
        FileNotFoundError: says what was looked for and where.
        ValueError: the file is damaged or not from lit_face, or the device is not there.
    """
    from lit_face.inference.model import FaceModel

    return FaceModel(load_predictor(path), device=device, **options)


def load_predictor(path: str | Path, trusted: tuple[str, ...] = ()) -> Any:
    """Load what turns crops into reconstructions, in evaluation mode, on the CPU.

    Args:
        path: see `load`.
        trusted: further packages that the config of a checkpoint may name.

    Raises:
        FileNotFoundError, ValueError, ConfigError: what is wrong with the file or its config.
    """
    file = weights_of(path)
    if file.suffix == ".onnx":
        from lit_face.inference.onnx import OnnxPredictor

        return OnnxPredictor(file, trusted)
    if is_portable_folder(file):
        from lit_face.inference.portable import load_portable

        return load_portable(file, trusted)
    method, _ = load_method(file, trusted, compiled=False)
    return predictor_of(method, file)


def shipped_models() -> dict[str, Path]:
    """Return the portable folders that come with lit_face, by name."""
    folders = Path(lit_face.__file__).parent.glob("methods/*/pretrained/*")
    return {folder.name: folder for folder in sorted(folders) if is_portable_folder(folder)}


def predictor_of(method: Any, file: Path) -> Any:
    """Return a method's predictor in evaluation mode.

    Raises:
        ValueError: the method has none; names `file`, which it is from.
    """
    if not hasattr(method, "predictor"):
        raise ValueError(
            f"{file} holds a {type(method).__name__}, which has no predictor(): it can be trained "
            "and evaluated, but does not say how it is used on photos (docs/add_a_method.md)."
        )
    return method.predictor().eval()


def weights_of(path: str | Path) -> Path:
    """Return the file or portable folder that `load_predictor` reads for a path or a name.

    Raises:
        FileNotFoundError: says what was looked for and where, and which names there are.
    """
    given = Path(path)
    if not given.exists() and str(path) in shipped_models():
        return shipped_models()[str(path)]
    if given.is_file() or is_portable_folder(given):
        return given
    try:
        return find_checkpoint(given, prefer="best")
    except FileNotFoundError as error:
        names = ", ".join(shipped_models())
        raise FileNotFoundError(f"{error} Models that come with lit_face: {names}.") from None


def load_method(
    file: Path, trusted: tuple[str, ...] = (), compiled: bool = True
) -> tuple[Any, dict[str, Any]]:
    """Build the method that a checkpoint holds; return it with its run's config.

    Args:
        file: the checkpoint.
        trusted: further packages that its config may name.
        compiled: compile the network where the training did; it takes a minute.

    Raises:
        ValueError, ConfigError: what is wrong with the file or its config.
    """
    checkpoint = read_checkpoint(file)
    stored = check_config(
        {**checkpoint["lit_face"]["config"], "trusted_modules": list(trusted)}
    )  # never the file's own list
    model = instantiate(stored["morphable_model"], trusted_modules=trusted)
    config = dict(stored["method"])
    if not compiled and "compile_network" in config:
        config["compile_network"] = False
    with filled_by_checkpoint():
        method = instantiate(config, trusted_modules=trusted, morphable_model=model)
    load_weights(method, checkpoint["state_dict"], file)
    return method, stored


def choose_device(name: str) -> str:
    """Return the device that a name means; 'auto' takes what is there.

    Raises:
        ValueError: the device cannot be used here.
    """
    import torch

    if name != "auto":
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device={name} is not usable here: {error}") from error
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
