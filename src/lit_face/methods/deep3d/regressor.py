"""Deep3D's network: a ResNet and seven linear heads, and the weights of its authors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_face.io.checkpoints import UNREADABLE, find_checkpoint
from lit_face.io.start_weights import weights_come_later

# In the order of Deep3DFaceRecon_pytorch's `final_layers` and of its 257 coefficients.
_HEADS = ("identity", "expression", "albedo", "angles", "light", "shift", "depth")
_SIZES = {"angles": 3, "light": 27, "shift": 2, "depth": 1}
_NETWORK = "net_recon"


class Deep3DRegressor(nn.Module):
    """Crops to coefficients; every head starts at 0, which is the mean face.

    Args:
        backbone: a ResNet of torchvision.
        identity: coefficients.
        expression: likewise.
        albedo: likewise.
        pretrained: start from torchvision's ImageNet weights, which are downloaded once.
        weights: start from a run's folder or checkpoint of this method, or a checkpoint of
            Deep3DFaceRecon_pytorch (`epoch_20.pth`).

    Attributes:
        trained_with: options of the run that `weights` is from, by name; empty for any other.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: no such backbone, or a checkpoint that does not fit.
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        identity: int = 80,
        expression: int = 64,
        albedo: int = 80,
        pretrained: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {
            "backbone": backbone,
            "identity": identity,
            "expression": expression,
            "albedo": albedo,
        }
        self.backbone, self.feature_size = _build_backbone(backbone, pretrained)
        sizes = {"identity": identity, "expression": expression, "albedo": albedo, **_SIZES}
        self.heads = nn.ModuleDict(
            {name: nn.Linear(self.feature_size, sizes[name]) for name in _HEADS}
        )
        for parameter in self.heads.parameters():
            nn.init.zeros_(parameter)
        self.trained_with: dict[str, Any] = {}
        if weights is not None and not weights_come_later():
            self.trained_with = load_deep3d_checkpoint(self, weights)

    def features(self, image: Tensor) -> Tensor:
        """Map crops (B,3,H,W), RGB in [0,1], to the pooled features (B,D); 2048 of a ResNet-50."""
        features: Tensor = self.backbone(image)
        return features

    def coefficients(self, features: Tensor) -> dict[str, Tensor]:
        """Read coefficients from features (B,D).

        Returns:
            identity, expression, albedo (B,K) in standard deviations, angles (B,3) radians, light
            (B,3,9) channel by channel, translation (B,3).
        """
        found = {name: head(features) for name, head in self.heads.items()}
        return _named(found)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return the `coefficients` of crops (B,3,H,W), RGB in [0,1]."""
        return self.coefficients(self.features(image))


def split_coefficients(vector: Tensor, identity: int, expression: int, albedo: int) -> Any:
    """Name the parts of Deep3D's coefficients (B,257), or of as many as another model has.

    Returns:
        As `Deep3DRegressor.coefficients`.
    """
    sizes = {"identity": identity, "expression": expression, "albedo": albedo, **_SIZES}
    parts = torch.split(vector, [sizes[name] for name in _HEADS], dim=1)
    return _named(dict(zip(_HEADS, parts, strict=True)))


def load_deep3d_checkpoint(network: Deep3DRegressor, given: str | Path) -> dict[str, Any]:
    """Copy the weights of a checkpoint; nothing in it is executed.

    Args:
        network: of Deep3DFaceRecon_pytorch's weights a ResNet-50 with 80, 64 and 80 coefficients.
        given: a run's folder or checkpoint of this method, or a checkpoint of
            Deep3DFaceRecon_pytorch: a dict `net_recon` of `backbone.*` and `final_layers.0` to
            `final_layers.6`, or these names with the prefix `net_recon.`.

    Returns:
        The run's options of the method; nothing of other checkpoints.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or lists missing, unknown and misshapen keys.
    """
    try:
        path = find_checkpoint(Path(given).expanduser(), prefer="best")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"network.weights: {error} Train deep3d first (python train.py method=deep3d), or give "
            "the folder of such a run, its checkpoint, or Deep3DFaceRecon_pytorch's epoch_20.pth."
        ) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (*UNREADABLE, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(
            f"network.weights: {path} cannot be read as plain tensors: it is cut, damaged or holds "
            f"more than that. ({reason})"
        ) from error
    if isinstance(content, Mapping) and "lit_face" in content:
        return _load_own(network, content, path)
    _load(network, _reconstruction_state(content, path), path)
    return {}


def _named(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {name: parts[name] for name in ("identity", "expression", "albedo", "angles")}
    found["light"] = parts["light"].unflatten(1, (3, 9))
    found["translation"] = torch.cat([parts["shift"], parts["depth"]], dim=1)
    return found


def _build_backbone(name: str, pretrained: bool) -> tuple[nn.Module, int]:
    import torchvision

    models = torchvision.models
    if name not in models.list_models(module=models, include="*resne*"):
        raise ValueError(
            f"network.backbone '{name}' is unknown; use a ResNet of torchvision.models such as "
            "'resnet50' or 'resnet18'."
        )
    try:
        network: Any = models.get_model(name, weights="DEFAULT" if pretrained else None)
    except (OSError, RuntimeError) as error:  # no connection, or a file cut short
        raise RuntimeError(
            f"network.pretrained: torchvision's weights of {name} cannot be had ({error}). Set "
            "network.pretrained=false, or put the file into torch's hub cache."
        ) from error
    features = network.fc.in_features
    network.fc = nn.Identity()
    return network, features


def _reconstruction_state(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the tensors of `net_recon` by name, without that prefix."""
    state = content.get(_NETWORK) if isinstance(content, Mapping) else None
    if state is None and isinstance(content, Mapping):
        prefix = f"{_NETWORK}."
        state = {
            key.removeprefix(prefix): value
            for key, value in content.items()
            if isinstance(key, str) and key.startswith(prefix)
        }
    if not isinstance(state, Mapping) or not state:
        keys = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else "no dict"
        raise ValueError(
            f"network.weights: {path} has no key '{_NETWORK}', which checkpoints of "
            f"Deep3DFaceRecon_pytorch have; found {keys}."
        )
    bad = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    if bad:
        raise ValueError(f"network.weights: {path}: '{bad[0]}' should be a tensor.")
    return {str(key): value for key, value in state.items()}


def _load_own(network: Deep3DRegressor, content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    method: dict[str, Any] = content["lit_face"]["config"]["method"]
    found = method.get("network") or {}
    if found.get("_target_", "").rpartition(".")[2] != type(network).__name__:
        raise ValueError(
            f"network.weights: {path} holds a {method['_target_'].rpartition('.')[2]}, not a "
            "Deep3DModule: give a run of method=deep3d."
        )
    wrong = [f"{k}={found.get(k)}" for k, v in network.options.items() if found.get(k) != v]
    if wrong:
        raise ValueError(
            f"network.weights: {path} was trained with {', '.join(wrong)} and does not fit "
            f"{network.options}; set these options of the network likewise."
        )
    prefix = "network."
    state = content["state_dict"].items()
    network.load_state_dict(
        {key.removeprefix(prefix): value for key, value in state if key.startswith(prefix)}
    )
    return method


def _load(network: Deep3DRegressor, state: Mapping[str, Tensor], path: Path) -> None:
    own = network.state_dict()
    names = {_their_name(key): key for key in own}
    shapes = {name: _their_shape(name, own[key]) for name, key in names.items()}
    lists = {
        "missing": sorted(set(names) - set(state)),
        "unknown": sorted(set(state) - set(names)),
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {shapes[name]}"
            for name in sorted(set(names) & set(state))
            if tuple(state[name].shape) != shapes[name]
        ],
    }
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:3])}{', ...' * (len(keys) > 3)}"
        for what, keys in lists.items()
        if keys
    ]
    if problems:
        raise ValueError(
            f"network.weights: {path} does not fit {network.options}; {'; '.join(problems)}."
        )
    network.load_state_dict(
        {key: state[name].reshape(own[key].shape) for name, key in names.items()}
    )


def _their_name(key: str) -> str:
    """Translate a name of our state_dict: heads are numbered 1 x 1 convolutions there."""
    if not key.startswith("heads."):
        return key
    _, name, rest = key.split(".", 2)
    return f"final_layers.{_HEADS.index(name)}.{rest}"


def _their_shape(name: str, own: Tensor) -> tuple[int, ...]:
    is_convolution = name.startswith("final_layers.") and own.ndim == 2
    return (*own.shape, 1, 1) if is_convolution else tuple(own.shape)
