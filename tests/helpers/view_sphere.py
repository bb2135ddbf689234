"""A painted sphere of 80 mm in front of several cameras: photos by closed form, maps, truth."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.geometry.cameras import PerspectiveCamera, look_at

RADIUS = 80.0  # mm


@dataclass
class ViewSphere:
    """Maps (3,S,S) and (S,S), photos (N,3,H,W) and their cameras."""

    position: Tensor
    normal: Tensor
    mask: Tensor
    images: Tensor
    camera: PerspectiveCamera


def paint(points: Tensor) -> Tensor:
    """Colours (...,3) of points (...,3) of the surface."""
    x, y, _ = points.unbind(-1)
    red = 0.55 + 0.1 * torch.sin(x / 15) + 0.08 * torch.sin(y / 4 + x / 5)
    green = 0.45 + 0.1 * torch.cos(y / 12) + 0.08 * torch.sin(x / 4)
    return torch.stack([red, green, 0.4 + 0.08 * torch.sin((x + y) / 9)], dim=-1)


def view_sphere(
    size: int = 64, yaws=(-40.0, 0.0, 40.0), height: int = 160, width: int = 120, paint=paint
) -> ViewSphere:
    """Look at the sphere's front from one metre, at yaws in degrees; `paint` colours points."""
    angle = (torch.arange(size) + 0.5) / size * 2.4 - 1.2
    up, side = torch.meshgrid(-angle, angle, indexing="ij")
    normal = torch.stack([side.sin() * up.cos(), up.sin(), side.cos() * up.cos()])
    mask = (up.abs() < 1) & (side.abs() < 1)
    yaw = torch.deg2rad(torch.tensor(yaws))
    eye = 1000 * torch.stack([yaw.sin(), 0 * yaw, yaw.cos()], -1)
    top = torch.tensor([0.0, 1, 0]).expand(len(yaw), 3)
    rotation, translation = look_at(eye, torch.zeros(len(yaw), 3), top)
    focal = 4.4 * height
    row = [[focal, 0, width / 2 - 0.5], [0, focal, height / 2 - 0.5], [0, 0, 1]]
    camera = PerspectiveCamera(torch.tensor(row).expand(len(yaw), 3, 3), rotation, translation)
    images = torch.stack(
        [_photo(camera, eye, view, (height, width), paint) for view in range(len(yaw))]
    )
    return ViewSphere(RADIUS * normal, normal, mask, images, camera)


def _photo(camera, eye, view, shape, paint):
    height, width = shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)]).flatten(1).float()
    rays = torch.linalg.inv(camera.intrinsics[view]) @ pixels
    rays = F.normalize(camera.rotation[view].T @ rays, dim=0).T
    along = (rays * eye[view]).sum(1)
    inner = along**2 - (eye[view] @ eye[view] - RADIUS**2)
    points = eye[view] + rays * (-along - inner.clamp(min=0).sqrt())[:, None]
    color = torch.where((inner > 0)[:, None], paint(points), 0.05)
    return color.T.reshape(3, height, width)
