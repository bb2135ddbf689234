import numpy as np
import trimesh

from lit_face.rendering.view_visibility import view_visibility
from tests.geometry.test_triangulation import ring


def sphere_maps(size=48, radius=60.0):
    """Positions and normals of the half of a sphere that looks along z, as maps."""
    angles = np.deg2rad(np.linspace(-85, 85, size))
    pitch, yaw = np.meshgrid(-angles, angles, indexing="ij")
    normal = np.stack(
        [np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)], axis=2
    )
    return radius * normal, normal


def seen_by(extra=None, widths=480, heights=640):
    position, normal = sphere_maps()
    mesh = trimesh.creation.icosphere(4, 59.8)
    if extra is not None:
        mesh = trimesh.util.concatenate([mesh, extra])
    K, Rt = (tensor.numpy() for tensor in ring(5))
    count = len(K)
    found = view_visibility(
        position, normal, K, Rt, np.full(count, heights), np.full(count, widths),
        np.asarray(mesh.vertices), np.asarray(mesh.faces),
    )  # fmt: skip
    return found, position, normal, Rt


def test_of_a_sphere_a_view_sees_the_cap_that_faces_it():
    found, position, normal, Rt = seen_by()
    for view, pose in enumerate(Rt):
        towards = -pose[:, :3].T @ pose[:, 3] - position
        cosine = (normal * towards).sum(2) / np.linalg.norm(towards, axis=2)
        assert found[view][cosine > 0.1].all()
        assert not found[view][cosine < 0].any()


def test_what_stands_between_hides():
    free, position, _, _ = seen_by()
    plate = trimesh.creation.box(extents=(30, 30, 1))
    plate.apply_translation([0, 0, 120])
    hidden, *_ = seen_by(plate)
    middle = np.linalg.norm(position[..., :2], axis=2) < 10
    assert free[2][middle].all()
    assert not hidden[2][middle].any()  # the frontal view
    assert hidden[0][middle].all()  # a view from the side looks past it
    assert (hidden <= free).all()


def test_what_lies_outside_of_the_photo_is_not_seen():
    whole, position, _, _ = seen_by()
    part, *_ = seen_by(widths=240)  # the middle of the face is in column 240
    frontal = whole[2] > part[2]
    assert frontal.any()
    assert (position[..., 0][frontal] > -1).all()
    assert part[2][whole[2] > 0].mean() > 0.4


def test_texels_without_surface_are_not_seen():
    position, normal = sphere_maps()
    position[:5] = 0
    mesh = trimesh.creation.icosphere(3, 59.8)
    K, Rt = (tensor.numpy() for tensor in ring(2))
    found = view_visibility(
        position, normal, K, Rt, np.full(2, 640), np.full(2, 480), mesh.vertices, mesh.faces
    )
    assert not found[:, :5].any()
    assert found.any()
