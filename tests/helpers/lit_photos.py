"""Faces of which albedo, light and camera are known, the photos they are, and what uses them."""

import json
from functools import cache

import numpy as np
import torch

from lit_face.inference.finders.base import Detection
from lit_face.inference.model import faces_of
from lit_face.io.images import write_image
from lit_face.methods.sh_brdf.head import StatisticalHead
from lit_face.methods.sh_brdf.network import SHBRDFNetwork
from lit_face.methods.sh_brdf.predictor import LandmarkPredictor, SHBRDFPredictor
from lit_face.methods.sh_brdf.reader import AttributeReader, with_valid_maps
from lit_face.methods.sh_brdf.refinement import Refinement
from lit_face.rendering.color import linear_to_srgb
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.rendering.scene import render_face
from tests.helpers.faces import head

BACKGROUND = 0.25  # sRGB
WEIGHTS = {
    "photo": 1.0,
    "landmark": 300.0,
    "prior_identity": 3e-3,
    "prior_expression": 3e-3,
    "prior_albedo": 3e-3,
    "light_grey": 1e-2,
    "consistency_diffuse": 0.1,
}


@cache
def reader(map_size=32, margin=2.0):
    return AttributeReader(StatisticalHead.of_model(head(), map_size), margin)


def refinement(steps=2, **options):
    return Refinement(RasterMaterialRenderer(), WEIGHTS, steps, **options)


def landmark_predictor(size=64):
    return LandmarkPredictor(head(), image_size=size, map_size=32, margin=1.6)


def network_predictor(size=48, seed=0):
    """A tiny network of random weights, whose faces are not the mean face."""
    torch.manual_seed(seed)
    network = SHBRDFNetwork("resnet18", map_size=32, decoder_width=32, bands=5)
    for layer in network.heads.values():
        torch.nn.init.normal_(layer.weight, std=2e-3)
    return SHBRDFPredictor(network, reader(margin=1.6), size).eval()


def raw_attributes(count, seed, angles_deg=((0.0, 0.0, 0.0),)):
    """Raw attributes of random faces under smooth light, mostly from above and from the viewer."""
    generator, sizes = torch.Generator().manual_seed(seed), reader().head.counts
    draw = {name: torch.randn(count, size, generator=generator) for name, size in sizes.items()}
    light = torch.zeros(count, 25, 3)
    light[:, :9] = 0.8 * torch.randn(count, 9, 3, generator=generator)
    return {
        **{name: 0.6 * value for name, value in draw.items()},
        "rotation": torch.deg2rad(torch.tensor(angles_deg)).expand(count, 3).clone(),
        "translation": torch.zeros(count, 3),
        "focal": torch.zeros(count, 1),
        "light": light,
    }


def lit_photos(count=1, size=128, seed=5, angles_deg=((0.0, 0.0, 0.0),)):
    """Return photos (H,W,3) uint8 of square pictures, and their faces, as if found there."""
    face = with_valid_maps(reader()(raw_attributes(count, seed, angles_deg), size))
    shown = render_face(RasterMaterialRenderer(), face, (size, size))
    pictures = BACKGROUND + shown.mask * (linear_to_srgb(shown.image) - BACKGROUND)
    pixels = (pictures.clamp(0, 1).permute(0, 2, 3, 1) * 255).round().byte().numpy()
    boxes = torch.cat([face.landmarks[..., :2].amin(1), face.landmarks[..., :2].amax(1)], dim=1)
    found = [
        Detection(tuple(box), landmarks=points[:, :2].double().numpy())
        for box, points in zip(boxes.tolist(), face.landmarks, strict=True)
    ]
    return list(pixels), faces_of(face, found, [(size, size)] * count)


def detections(faces):
    """What a finder with landmarks finds: a list a photo."""
    return [[Detection(f.box, 0.9, f.landmarks[:, :2].astype(np.float64))] for f in faces]


def write_lit_photos(folder, names, photos, faces):
    """Write photos below `folder` and landmarks.json beside it; return that table's path."""
    table = folder.parent / f"{folder.name}_landmarks.json"
    content = {}
    for name, photo, face in zip(names, photos, faces, strict=True):
        write_image(folder / name, photo)
        content[name] = [{"landmarks": face.landmarks[:, :2].tolist()}]
    table.write_text(json.dumps(content))
    return table
