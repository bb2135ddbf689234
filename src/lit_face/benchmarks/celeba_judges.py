"""Identity networks that judge, and the rule that none judges what it has trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from lit_face.identity import align_faces, mask_faces, weights_digest
from lit_face.metrics.identity import identity_cosine, verification

TRAINED = "_trained"
_KINDS = ("identity_cosine", "identity_cosine_render")


@dataclass
class Judges:
    """Identity networks by name.

    Attributes:
        networks: aligned faces (B,3,112,112) to features; frozen.
        trained: names of those whose weights took part in the method's training.
        photos: their features of the photos seen so far.
        people: who is on these.
    """

    networks: Mapping[str, nn.Module]
    trained: frozenset[str] = frozenset()
    photos: dict[str, list[Tensor]] = field(default_factory=dict)
    people: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(
        cls, networks: Mapping[str, nn.Module], method: object, device: str | torch.device
    ) -> Judges:
        """Freeze networks and find out which of them trained a method.

        Args:
            networks: by name.
            method: may have `training_embedder_digests`, `weights_digest`s of what it learnt from.
            device: where they compute.
        """
        known = set(getattr(method, "training_embedder_digests", ()))
        ready = {n: net.requires_grad_(False).eval().to(device) for n, net in networks.items()}
        trained = {name for name, net in ready.items() if weights_digest(net) in known}
        return cls(ready, frozenset(trained))

    @property
    def independent(self) -> list[str]:
        """Names of those that took no part in training."""
        return [name for name in self.networks if name not in self.trained]

    def remember(self, photo: Tensor, points: Tensor, person: Tensor | None) -> None:
        """Keep features of photos (B,3,H,W), to say later how well people are told apart."""
        if person is None:
            return
        faces = align_faces(photo, points)
        for name, network in self.networks.items():
            self.photos.setdefault(name, []).append(network(faces).float().cpu())
        self.people.append(person.cpu())

    def __call__(
        self, photo: Tensor, shown: Tensor, mask: Tensor, points: Tensor
    ) -> dict[str, Tensor]:
        """Return cosines (B,) of photos and pictures of faces, by key and judge.

        `identity_cosine_<name>` compares the photo with the picture pasted over it where the mask
        is 1; `identity_cosine_render_<name>` both with grey where it is 0, so that nothing around
        the face helps.

        Args:
            photo: (B,3,H,W) sRGB.
            shown: (B,3,H,W) likewise.
            mask: (B,1,H,W).
            points: landmarks (B,68,2+) of the photo.
        """
        pasted = align_faces(mask_faces(shown, mask, photo), points)
        whole = align_faces(photo, points)
        alone = align_faces(mask_faces(shown, mask), points)
        face = align_faces(mask_faces(photo, mask), points)
        found = {}
        for name, network in self.networks.items():
            end = name + (TRAINED if name in self.trained else "")
            for kind, pair in zip(_KINDS, ((whole, pasted), (face, alone)), strict=True):
                found[f"{kind}_{end}"] = identity_cosine(*(network(faces) for faces in pair))
        return found

    def summary(self, errors: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return mean and standard deviation over pictures and independent judges."""
        found: dict[str, float] = {}
        for kind in _KINDS if self.independent else ():
            keys = [f"{kind}_{name}" for name in self.independent]
            values = np.concatenate([errors.get(key, np.zeros(0)) for key in keys])
            values = values[np.isfinite(values)]
            if len(values):
                found |= {kind: float(values.mean()), f"{kind}_std": float(values.std())}
        return found

    def skill(self) -> dict[str, float]:
        """Return, of every judge, how well it tells the photos' people apart (AUC)."""
        found = {}
        for name, parts in self.photos.items():
            auc = verification(torch.cat(parts), torch.cat(self.people)).auc
            if np.isfinite(auc):
                found[f"judge_auc_{name}"] = auc
        return found

    def note(self) -> str:
        """Say who judged."""
        if not self.networks:
            return "No judge (benchmark.judges is empty): identity is not measured."
        texts = []
        if self.independent:
            names = ", ".join(self.independent)
            texts.append(f"Identity is judged by {names}, which took no part in training.")
        if self.trained:
            names = ", ".join(sorted(self.trained))
            texts.append(
                f"The method has learnt from {names}, whose cosines are listed as 'trained' and do "
                "not enter identity_cosine."
            )
        if not self.independent:
            texts.append(
                "No independent judge is left, so there is no identity_cosine; add one with "
                "+embedder@benchmark.judges.NAME=small_judge (or arcface, facenet)."
            )
        return " ".join(texts)
