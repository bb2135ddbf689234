"""From a photo to a coarse face, what the photo shows of it, and the fine colours of its mesh."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import Mode
from lit_face.identity import align_faces
from lit_face.methods.gcn.generator import GeneratedColours, MeshGenerator
from lit_face.methods.gcn.sampling import erode_skin, sample_colours, seen_vertices
from lit_face.rendering.color import linear_to_srgb, srgb_to_linear
from lit_face.rendering.interpolate import Fragments, fragments_of
from lit_face.rendering.rasterize import rasterize
from lit_face.rendering.renderer import normals_to_camera
from lit_face.rendering.shade import sh_shading
from lit_face.types import Reconstruction

_DARK = 0.1  # shading below which light is not taken out in full


@dataclass(frozen=True, eq=False)
class Observed:
    """A photo as the refiner sees it. Colours are sRGB values in [-1,1].

    Attributes:
        face: the coarse face, in pixels of the photo.
        coarse: (B,V,3) its albedo.
        sampled: (B,V,3) the photo's colours, 0 where hidden.
        seen: (B,V) 1 where the photo shows skin of the vertex.
        shading: (B,V,3) factors on linear albedo.
        identity: (B,D) the photo's identity features, where there is a network for them.
        embedding: (B,E) what the decoder starts from.
        fragments: the pixels that show the face.
        mask: (B,1,H,W) where face and skin overlap.
    """

    face: Reconstruction
    coarse: Tensor
    sampled: Tensor
    seen: Tensor
    shading: Tensor
    identity: Tensor | None
    embedding: Tensor
    fragments: Fragments
    mask: Tensor

    @fp32_region()
    def lit(self, colours: Tensor) -> Tensor:
        """Return albedo (B,V,3) under the photo's light, clipped."""
        linear = srgb_to_linear((colours.float() + 1) / 2) * self.shading
        return 2 * linear_to_srgb(linear).clamp(0, 1) - 1

    @fp32_region()
    def unlit(self, colours: Tensor) -> Tensor:
        """Return the albedo (B,V,3) of lit colours, clipped; where it is dark it is uncertain."""
        linear = srgb_to_linear((colours.float() + 1) / 2) / self.shading.clamp(min=_DARK)
        return 2 * linear_to_srgb(linear).clamp(0, 1) - 1

    @fp32_region()
    def picture(self, lit: Tensor, photo: Tensor) -> Tensor:
        """Lay lit colours (B,V,3) over the photo (B,3,H,W) in [0,1]; returns its kind."""
        drawn = self.fragments.to_image(self.fragments.interpolate((lit + 1) / 2))
        return torch.lerp(photo, drawn, self.mask)


class MeshRefiner(nn.Module):
    """A frozen coarse face and the generator of fine colours.

    Args:
        coarse: as `lit_face.methods.deep3d.predictor.Deep3DPredictor`: `network.features`,
            `network.coefficients`, `face`, `image_size`, `follow_contour`. It stays as it is.
        generator: see `MeshGenerator`.
        embedder: identity network whose features the decoder gets beside the regressor's, and that
            judges in the identity loss; it stays as it is. None: the regressor's alone.
        delit: the generator sees the photo's colours without the photo's light (albedo by the
            coarse face's light), not as they are; the reference shows them as they are.
        depth_test: what another part of the face hides is not sampled; the reference does.
        interpolation: of sampled colours: 'bilinear', or 'nearest' as in the reference.
    """

    def __init__(
        self,
        coarse: nn.Module,
        generator: MeshGenerator,
        embedder: nn.Module | None = None,
        delit: bool = True,
        depth_test: bool = True,
        interpolation: Mode = "bilinear",
    ) -> None:
        super().__init__()
        self.coarse = coarse.requires_grad_(False).eval()
        self.generator = generator
        self.embedder = None if embedder is None else embedder.requires_grad_(False).eval()
        self.delit, self.depth_test, self.interpolation = delit, depth_test, interpolation

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which an empty refiner is built."""
        coarse: Any = self.coarse
        embedder: Any = self.embedder
        return {
            "_target_": "lit_face.methods.gcn.refiner.MeshRefiner",
            "coarse": coarse.config,
            "generator": self.generator.config,
            "embedder": None if embedder is None else embedder.config,
            "delit": self.delit,
            "depth_test": self.depth_test,
            "interpolation": self.interpolation,
        }

    def persistent_copy(self) -> MeshRefiner:
        """Return a copy whose state_dict holds everything; it shares the networks' weights."""
        coarse: Any = self.coarse
        return MeshRefiner(
            coarse.persistent_copy(),
            self.generator.persistent_copy(),
            self.embedder,
            self.delit,
            self.depth_test,
            self.interpolation,
        )

    @torch.no_grad()
    def look(self, photo: Tensor) -> tuple[Reconstruction, Tensor]:
        """Return the coarse faces of photos (B,3,H,W) in [0,1] and the regressor's features (B,D).

        Photos are crops as the coarse regressor takes them, of any size.
        """
        coarse: Any = self.coarse
        side = photo.shape[-1]
        small = photo
        if side != coarse.image_size:
            target = (coarse.image_size, coarse.image_size)
            small = F.interpolate(photo, target, mode="bilinear", antialias=True)
        features: Tensor = coarse.network.features(small)
        found = coarse.network.coefficients(features)
        return coarse.face(found, side, coarse.follow_contour, with_maps=False), features

    @torch.no_grad()
    def observe(
        self,
        photo: Tensor,
        skin: Tensor,
        looked: tuple[Reconstruction, Tensor] | None = None,
    ) -> Observed:
        """Find out what photos show; nothing here learns.

        Args:
            photo: see `look`.
            skin: (B,1,H,W) in [0,1].
            looked: what `look` returned for these photos, where that is known already.
        """
        face, features = self.look(photo) if looked is None else looked
        with fp32_region():
            return self._observed(photo, skin.float(), face, features.float())

    def forward(self, observed: Observed) -> GeneratedColours:
        """Return fine albedo, sRGB values in [-1,1], with the two parts that it is made of."""
        seen = observed.seen[..., None]
        sampled = observed.unlit(observed.sampled) * seen if self.delit else observed.sampled
        features = torch.cat([observed.coarse, sampled, seen], dim=-1)
        colours: GeneratedColours = self.generator(observed.embedding, features)
        return colours

    def reconstruct(
        self,
        photo: Tensor,
        skin: Tensor,
        looked: tuple[Reconstruction, Tensor] | None = None,
    ) -> Reconstruction:
        """Return refined faces in pixels of the photos; arguments as in `observe`."""
        observed = self.observe(photo, skin, looked)
        fine = (self(observed).colours.float() + 1) / 2
        coarse = (observed.coarse + 1) / 2
        face_model: Any = self.coarse.face
        return replace(
            observed.face,
            visibility=observed.seen,
            vertex_colors={"albedo": fine, "coarse_albedo": coarse},
            textures={"diffuse": face_model.texture(fine)},
        )

    def identity(self, picture: Tensor, face: Reconstruction) -> Tensor:
        """Return identity features (B,D) of pictures (B,3,H,W) in [0,1] of a face."""
        embedder: Any = self.embedder
        features: Tensor = embedder(align_faces(picture, face.landmarks))
        return features

    def train(self, mode: bool = True) -> Self:
        """Switch the generator; what is frozen stays as it is."""
        super().train(mode)
        self.coarse.eval()
        if self.embedder is not None:
            self.embedder.eval()
        return self

    def _observed(
        self, photo: Tensor, skin: Tensor, face: Reconstruction, features: Tensor
    ) -> Observed:
        size = (photo.shape[-2], photo.shape[-1])
        points, faces, camera = face.image_vertices, face.faces, face.camera
        if camera is None or not isinstance(face.light, Tensor) or face.vertex_colors is None:
            raise ValueError("The coarse face needs a camera, light and colours of vertices.")
        fragments = fragments_of(points, faces, rasterize(points, faces, size))
        drawn = torch.zeros_like(skin)
        drawn.view(-1)[fragments.pixel] = 1
        seen = seen_vertices(points, faces, size, erode_skin(skin), self.depth_test)
        sampled = 2 * sample_colours(photo.float(), points[..., :2], self.interpolation) - 1
        normals = normals_to_camera(vertex_normals(face.vertices, faces), camera)
        identity = None if self.embedder is None else self.identity(photo, face).float()
        return Observed(
            face=face,
            coarse=2 * face.vertex_colors["albedo"] - 1,
            sampled=sampled * seen[..., None],
            seen=seen,
            shading=sh_shading(normals, face.light).clamp(min=0),
            identity=identity,
            embedding=features if identity is None else torch.cat([features, identity], dim=1),
            fragments=fragments,
            mask=drawn * skin,
        )
