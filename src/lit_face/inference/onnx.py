"""Trained predictors as one ONNX file, and their use through onnxruntime.

The graph maps crops `image` (B,3,S,S) in [0,1] to the method's tensor (PRN: `output`, position maps
in pixels of the crop). What turns that tensor into faces stands in the file's metadata, so that the
file alone is enough for lit_face, and other programs can run the graph without lit_face.
"""

from __future__ import annotations

import base64
import json
import logging
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_face.inference.portable import build
from lit_face.io.files import atomic_write
from lit_face.types import Reconstruction

_FORMAT = 1
_CONFIG, _STATE = "lit_face", "lit_face_state"
_OPSET = 18
_TOLERANCE = 1e-3  # of the largest value: float32 summed in another order
_INSTALL = 'pip install "lit_face[onnx]"'


def export_onnx(
    predictor: nn.Module, path: str | Path, record: Mapping[str, Any] | None = None
) -> float:
    """Write a predictor as one ONNX file, after checking it in onnxruntime against torch.

    Args:
        predictor: `method.predictor()` or what `load_portable` returns; has `stages()`.
            It is in evaluation mode afterwards.
        path: the `.onnx` file.
        record: plain values about the weights, as in `save_portable`.

    Returns:
        The largest difference between onnxruntime and torch, in the unit of the graph's output.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is not installed.
        ValueError: the predictor has no `stages()`, or onnxruntime gives other numbers.
    """
    if not hasattr(predictor, "stages"):
        raise ValueError(
            f"{type(predictor).__name__} cannot be exported to ONNX, as it has no stages() "
            "(docs/add_a_method.md). Write a portable folder: out=FOLDER without '.onnx'."
        )
    path = Path(path)
    front, back = predictor.eval().stages()  # type: ignore[operator]
    size = int(predictor.image_size)  # type: ignore[arg-type]
    device = next(front.parameters()).device
    image = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), atomic_write(path) as temporary:
        expected = front(image.to(device)).float().cpu()
        _write_graph(front, image[:2].to(device), temporary)
        config = {
            "format": _FORMAT, "image_size": size, "margin": predictor.margin,
            "reader": back.config, "record": dict(record or {}),
        }  # fmt: skip
        _add_metadata(temporary, config, back.state_dict())
        difference = _difference(temporary, image, expected)
        if not difference <= _TOLERANCE * float(expected.abs().max()):
            raise ValueError(
                f"{path}: onnxruntime and torch differ by {difference:.3g}; nothing written."
            )
    return difference


class OnnxPredictor(nn.Module):
    """A predictor that runs an ONNX file of `export_onnx`; used like the method's own.

    Args:
        path: the `.onnx` file.
        trusted_modules: packages beside lit_face's methods that the file may name.
        providers: onnxruntime's execution providers; CUDA where it is there, else the CPU.

    Attributes:
        image_size, margin, record: as of other predictors.

    Raises:
        ImportError: onnxruntime is not installed.
        FileNotFoundError, ValueError: what is wrong with the file.
    """

    def __init__(
        self,
        path: str | Path,
        trusted_modules: tuple[str, ...] = (),
        providers: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.session = _session(Path(path), providers)
        metadata = self.session.get_modelmeta().custom_metadata_map
        config = _config(metadata, Path(path))
        self.image_size, self.margin = int(config["image_size"]), float(config["margin"])
        self.record = dict(config["record"])
        state = _unpacked(metadata[_STATE], Path(path))
        self.reader = build(config["reader"], state, str(path), trusted_modules)

    @property
    def regions(self) -> dict[str, Tensor]:
        """UV maps of the parts of the face."""
        return self.reader.regions  # type: ignore[return-value]

    @torch.no_grad()
    def forward(self, image: Tensor) -> Reconstruction:
        """Reconstruct crops (B,3,image_size,image_size) in [0,1], in their pixels."""
        array = image.detach().float().cpu().contiguous().numpy()
        (output,) = self.session.run(None, {"image": array})
        reconstruction: Reconstruction = self.reader(torch.from_numpy(output).to(image.device))
        return reconstruction


def _write_graph(front: nn.Module, image: Tensor, path: Path) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"Writing ONNX needs the package '{error.name}': {_INSTALL}.") from error
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                front,
                (image,),
                str(path),
                input_names=["image"],
                output_names=["output"],
                dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
                opset_version=_OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _add_metadata(path: Path, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    import onnx
    from safetensors.torch import save

    data = save({name: value.detach().cpu().contiguous() for name, value in state.items()})
    model = onnx.load(str(path))
    texts = {
        _CONFIG: json.dumps(config),
        _STATE: base64.b85encode(zlib.compress(data, 9)).decode(),
    }
    onnx.helper.set_model_props(model, texts)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _difference(path: Path, image: Tensor, expected: Tensor) -> float:
    """Run batches of three and of one."""
    session = _session(path, ["CPUExecutionProvider"])
    worst = 0.0
    for count in (len(image), 1):
        (found,) = session.run(None, {"image": image[:count].numpy()})
        worst = max(worst, float((torch.from_numpy(found) - expected[:count]).abs().max()))
    return worst


def _session(path: Path, providers: list[str] | None) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"Running {path.name} needs onnxruntime: {_INSTALL}.") from error
    if not path.is_file():
        raise FileNotFoundError(f"No ONNX file {path}.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    wanted = providers or ["CUDAExecutionProvider", "CPUExecutionProvider"]
    present = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=present)
    except Exception as error:  # onnxruntime raises its own classes, which it does not export
        raise ValueError(f"{path} cannot be read as ONNX: {error}") from error


def _config(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    if _CONFIG not in metadata or _STATE not in metadata:
        raise ValueError(
            f"{path} was not written by lit_face: it does not say how to read its output. "
            "python export.py ckpt=runs/latest out=FILE.onnx writes such a file."
        )
    config: dict[str, Any] = json.loads(metadata[_CONFIG])
    if config.get("format") != _FORMAT:
        raise ValueError(
            f"{path} has format {config.get('format')}; this lit_face reads format {_FORMAT}."
        )
    return config


def _unpacked(text: str, path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        state: dict[str, Tensor] = load(zlib.decompress(base64.b85decode(text)))
    except (ValueError, zlib.error, SafetensorError) as error:
        raise ValueError(f"{path}: its metadata '{_STATE}' is damaged: {error}.") from error
    return state
