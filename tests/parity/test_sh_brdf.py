"""Golden numbers of the SH / BRDF method: shared/reference/sh_brdf/README.md."""

import numpy as np
import pytest
import torch

from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.geometry.spherical_harmonics import lambert_factors, sh_basis
from lit_face.rendering.brdf import brdf
from lit_face.rendering.environment import (
    clamped_light,
    environment_directions,
    sample_environment,
    sh_to_environment,
)
from lit_face.rendering.light_maps import irradiance_map
from lit_face.rendering.material_renderer import LOBE_MAP_SIZE
from lit_face.rendering.specular import (
    blur_factors,
    lobe_bands,
    lobe_integrals,
    lobe_specular,
    prefiltered_specular,
    reflected_share,
)
from tests.helpers.tolerances import assert_close


@pytest.fixture(scope="module")
def golden(reference):
    """Load a file of the folder as a dict of tensors."""

    def load(name):
        with np.load(reference / "sh_brdf" / f"{name}.npz", allow_pickle=False) as arrays:
            return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}

    return load


@pytest.fixture(scope="module")
def specular(golden):
    """Light (Q,81,3), planes of one point each, and both true radiances (Q,) averaged over RGB."""
    data = golden("specular")
    scene = (data["normal"][:, :, None], data["view"][:, :, None], data["ks"][:, :, None])
    truth = {name: data[f"Ls_{name}"].mean(1) for name in ("clamped", "unclamped")}
    return data["coeffs"][data["coeff_idx"]], scene, data["roughness"][:, None], truth


def relative_error(found, truth):
    return (found[..., 0].mean(1) - truth).abs() / truth.abs()


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_basis(golden, dtype, atol):
    data = golden("sh_basis")
    assert_close(sh_basis(data["dirs"].to(dtype), 9), data["Y"], atol=atol, rtol=0)
    fewer = sh_basis(data["dirs"].to(dtype), 4)
    assert_close(fewer, data["Y"][:, :16], atol=atol, rtol=0)


def test_environment_maps_after_the_transposition_of_the_reference(golden):
    data = golden("sh_envmap")
    for coefficients, maps in (("coeffs", "env64"), ("coeffs_b3", "env32_b3")):
        size = tuple(data[maps].shape[1:3])
        found = sh_to_environment(data[coefficients].double(), size).permute(0, 2, 3, 1)
        assert_close(found, data[maps].transpose(1, 2), atol=5e-6, rtol=0)
    directions = environment_directions((64, 64))
    assert_close(directions[:, 0, 1].arccos(), data["theta64"], atol=1e-6)
    azimuth = torch.atan2(directions[0, :, 0], -directions[0, :, 2]).remainder(2 * torch.pi)
    assert_close(azimuth, data["phi64"], atol=1e-6)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_irradiance_in_closed_form(golden, dtype, atol):
    data = golden("irradiance")
    basis = sh_basis(data["normals"].to(dtype), 9) * lambert_factors(9).to(dtype)
    assert_close(basis @ data["coeffs"].to(dtype), data["E_unclamped"], atol=atol, rtol=atol)


def test_irradiance_of_light_that_is_never_negative(golden):
    data = golden("irradiance")
    light = clamped_light(data["coeffs"])
    found = (sh_basis(data["normals"], 13) * lambert_factors(13)) @ light
    largest = data["E_clamped"].amax(1, keepdim=True)
    assert ((found - data["E_clamped"]).abs() / largest).max() < 1e-3  # measured 3.4e-4


def test_baked_irradiance(golden):
    data = golden("irradiance")
    normals = data["normals"].mT.expand(len(data["coeffs"]), -1, -1)
    for light, name in (
        (data["coeffs"], "E_unclamped"),
        (clamped_light(data["coeffs"]), "E_clamped"),
    ):
        found = sample_environment(irradiance_map(light), normals).mT
        largest = data[name].abs().amax(1, keepdim=True)
        assert ((found - data[name]).abs() / largest).max() < 1e-3  # measured 3e-4 and 5e-4


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_reflectance_point_by_point(golden, dtype, rtol):
    data = {name: value.to(dtype) for name, value in golden("brdf_point").items()}
    scene = (data["normal"], data["view"], data["light"])
    rough = data["roughness"][:, None]
    found = brdf(*scene, data["kd"], data["ks"], rough)
    assert_close(found, data["f_cos"], rtol=rtol, atol=rtol * 1e-3)
    found = brdf(*scene, torch.zeros_like(data["kd"]), data["ks"], rough)
    assert_close(found, data["f_cos_spec"], rtol=rtol, atol=rtol * 1e-3)
    assert (found == 0).all(dim=1).sum() > 10  # light below the horizon is in the file


def test_lobe_integrals_and_bands(golden):
    data = golden("specular")
    found = lobe_integrals(data["AB_ndotv"], data["AB_roughness"], (192, 128))
    assert_close(found, data["AB"], atol=1e-5, rtol=0)
    assert_close(lobe_bands(data["zonal_roughness"]), data["zonal"], atol=1e-5, rtol=0)


def test_tables_between_their_nodes(golden):
    data = golden("specular")
    cosine, rough = torch.meshgrid(data["AB_ndotv"], data["AB_roughness"], indexing="ij")
    found = torch.stack(reflected_share(cosine, rough), dim=-1)
    assert_close(found, data["AB"], atol=1.5e-3, rtol=0)
    expected = data["zonal"] / data["zonal"][:, :1]
    assert_close(blur_factors(data["zonal_roughness"], 9), expected, atol=4e-3, rtol=0)


@pytest.mark.parametrize("levels", [False, True], ids=["one roughness", "roughness map"])
def test_prefiltered_specular_is_as_close_as_published(specular, levels):
    light, scene, rough, truth = specular
    if levels:  # two points an image, so that the roughness is not the same everywhere
        scene = tuple(plane.repeat(1, 1, 2) for plane in scene)
        rough = rough.repeat(1, 2)
    error = relative_error(prefiltered_specular(light, *scene, rough), truth["unclamped"])
    assert error.median() <= 0.03  # measured 0.022
    assert error.quantile(0.9) <= 0.10  # measured 0.092


@pytest.mark.parametrize(
    ("samples", "clamp", "median", "high", "worst"),
    [
        (64, False, 0.015, 0.04, 0.11),  # measured 0.009, 0.034, 0.099
        (64, True, 0.015, 0.05, 0.11),  # where the light is cut off the integrand has kinks
        (1024, False, 0.001, 0.003, 0.005),
        (1024, True, 0.001, 0.003, 0.005),
    ],
)
def test_lobe_quadrature_converges(specular, samples, clamp, median, high, worst):
    light, scene, rough, truth = specular
    environment = sh_to_environment(light, LOBE_MAP_SIZE, clamp=clamp)
    found = lobe_specular(environment, *scene, rough, samples)
    error = relative_error(found, truth["clamped" if clamp else "unclamped"])
    assert error.median() <= median
    assert error.quantile(0.9) <= high
    assert error.max() <= worst


def test_camera(golden):
    data = golden("camera")
    a, b, c = data["rotation"].double().unbind(-1)

    def turn(angle, first, second):
        matrix = torch.eye(3).double().repeat(len(angle), 1, 1)
        matrix[:, first, first] = matrix[:, second, second] = angle.cos()
        matrix[:, first, second], matrix[:, second, first] = -angle.sin(), angle.sin()
        return matrix

    rotation = turn(c, 0, 1) @ turn(b, 2, 0) @ turn(a, 1, 2)
    assert_close(rotation, data["Rt"][:, :, :3], atol=1e-6)
    intrinsics = torch.eye(3).double().repeat(len(a), 1, 1)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = data["focal"]
    intrinsics[:, :2, 2] = data["center"] - 0.5  # the reference counts pixels from the corner
    camera = PerspectiveCamera(intrinsics, rotation, data["translation"].double())
    points = data["points"].double()
    assert_close(camera.to_camera(points), data["cam_points"], atol=1e-3)
    pixels = camera.project(points)[..., :2]
    assert_close(pixels, data["pixels"] - 0.5, atol=2e-3, rtol=0)
    distance = (pixels - (data["landmarks"] - 0.5)).square().sum(-1)
    assert_close(distance.mean(), data["landmark_loss"], rtol=1e-5)
    half = torch.atan(data["image_wh"][:, 0] / (2 * data["focal"].double()))
    assert_close(2 * half.rad2deg(), data["fov_x_deg"], atol=1e-4)
