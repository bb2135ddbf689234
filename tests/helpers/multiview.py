"""A textured plane before several cameras: a multi-view scene in closed form."""

import math

import torch

from lit_face.geometry.cameras import PerspectiveCamera, look_at
from lit_face.types import FaceBatch

SIDE = 40.0  # of the plane, mm
PHOTO = 64


def _texture(x, y, seed):
    """Sums of waves: (…,3) in [0,1] at points in mm."""
    generator = torch.Generator().manual_seed(seed)
    color = torch.zeros(*x.shape, 3)
    for length in (9.0, 6.0, 4.0, 3.0):
        angle = torch.rand(3, generator=generator) * 2 * math.pi
        phase = torch.rand(3, generator=generator) * 2 * math.pi
        wave = (x[..., None] * angle.cos() + y[..., None] * angle.sin()) * 2 * math.pi / length
        color += 0.12 * torch.sin(wave + phase)
    return (color + 0.5).clamp(0, 1)


def cameras(yaws=(0, -20, 20, -40, 40)):
    angle = torch.deg2rad(torch.tensor(yaws, dtype=torch.float32))
    eye = 200 * torch.stack([angle.sin(), torch.zeros_like(angle), angle.cos()], dim=1)
    up = torch.tensor([0.0, 1, 0]).expand_as(eye)
    rotation, translation = look_at(eye, torch.zeros_like(eye), up)
    focal = PHOTO * 200 / SIDE * 0.8
    middle = (PHOTO - 1) / 2
    intrinsics = torch.tensor([[focal, 0, middle], [0, focal, middle], [0, 0, 1]])
    return PerspectiveCamera(intrinsics.expand(len(yaws), 3, 3), rotation, translation)


def photos_of_plane(camera, height, seed):
    """Photos (N,3,H,W) of the plane z = height."""
    v, u = torch.meshgrid(torch.arange(PHOTO), torch.arange(PHOTO), indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1).float()
    way = pixels.flatten(0, 1) @ torch.linalg.inv(camera.intrinsics).mT @ camera.rotation
    centre = -(camera.rotation.mT @ camera.translation[..., None])[..., 0]
    step = (height - centre[:, None, 2]) / way[..., 2]
    hit = centre[:, None] + step[..., None] * way
    color = _texture(hit[..., 0], hit[..., 1], seed)
    return color.unflatten(1, (PHOTO, PHOTO)).permute(0, 3, 1, 2)


def plane_batch(heights, size=16, seeds=None, camera=None):
    """Base mesh z = 0 with normals towards the cameras; the true surface is z = height, mm."""
    camera = camera or cameras()
    count = len(heights)
    seeds = range(count) if seeds is None else seeds
    images = [photos_of_plane(camera, h, s) for h, s in zip(heights, seeds, strict=True)]
    line = torch.linspace(-SIDE / 3, SIDE / 3, size)
    y, x = torch.meshgrid(line.flip(0), line, indexing="ij")
    position = torch.stack([x, y, torch.zeros_like(x)])
    mask = torch.ones(count, 1, size, size)
    mask[:, :, 0] = 0
    heights = torch.tensor(heights)
    return FaceBatch(
        torch.stack(images),
        camera=camera.map(lambda value: value[None].expand(count, *value.shape)),
        uv_maps={
            "position": position.expand(count, 3, size, size),
            "normal": torch.tensor([0.0, 0, 1])[:, None, None].expand(count, 3, size, size),
            "mask": mask,
            "visibility": torch.ones(count, len(camera), size, size),
        },
        scan={
            "displacement": heights[:, None, None, None] * torch.ones_like(mask),
            "valid": torch.ones_like(mask),
        },
        sample_id=[f"plane{seed}" for seed in seeds],
        random_key=torch.arange(count) + 1000,
    )
