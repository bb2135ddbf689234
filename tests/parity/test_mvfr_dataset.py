"""Photos and cameras as the release of Xiao et al. (AAAI 2022) prepares and stacks them."""

import numpy as np
import pytest

from lit_face.data.facescape_preparation import undistorted
from lit_face.data.facescape_views import lying, scaled


@pytest.mark.parametrize("name", ["preprocess_s11", "preprocess_s12"])
def test_a_photo_is_undistorted_resized_and_turned_as_in_the_reference(reference, name) -> None:
    with np.load(reference / "mvfr" / "dataset" / f"{name}.npz") as stored:
        golden = dict(stored)
    photo = undistorted(golden["image_bgr_u8"], golden["K"], golden["distortion_k1k2p1p2k3"])
    # OpenCV 4.10 and 5.0 round some pixels of a remap differently
    assert np.abs(photo.astype(int) - golden["undistorted"]).max() <= 1
    scale = golden["target_max_side"] / max(photo.shape[:2])
    small, K = scaled(golden["undistorted"], golden["K"], scale, pixel_center=False)
    np.testing.assert_array_equal(small, golden["resized"])
    np.testing.assert_allclose(K, golden["K_out"], atol=1e-12)
    if small.shape[0] > small.shape[1]:
        turned, turned_K = lying(small, K)
        np.testing.assert_array_equal(turned, golden["transposed_image"])
        np.testing.assert_allclose(turned_K, golden["K_transposed"], atol=1e-12)


@pytest.mark.parametrize("name", ["if_dataset_D201_s11", "if_dataset_D21_s12"])
def test_views_are_stacked_with_the_cameras_of_the_reference(reference, name) -> None:
    with np.load(reference / "mvfr" / "dataset" / f"{name}.npz") as stored:
        golden = dict(stored)
    for row, view in enumerate(golden["view_ids"]):
        image, K = lying(golden[f"jpg_decoded_{view}"], golden["K"][row])
        np.testing.assert_array_equal(image, golden["out_images"][row])
        _, half = scaled(image, K, 0.5, pixel_center=False)  # the features' stride is 2
        np.testing.assert_allclose(half, golden["out_cams"][row, 1, :3, :3], atol=1e-6)
        np.testing.assert_allclose(golden["Rt"][row], golden["out_cams"][row, 0, :3], atol=1e-6)


@pytest.mark.parametrize("name", ["if_dataset_D201_s11", "if_dataset_D21_s12"])
def test_the_scale_turns_units_into_the_references_intervals(reference, name) -> None:
    with np.load(reference / "mvfr" / "dataset" / f"{name}.npz") as stored:
        golden = dict(stored)
    scale, interval = golden["rt_scale"], golden["interval_scale"]
    at = {(r, c): i for i, (r, c) in enumerate(zip(golden["rows"], golden["cols"], strict=True))}
    texel = [at[rc] for rc in zip(golden["train_rows"], golden["train_cols"], strict=True)]
    displacement_mm = golden["mv_model_units"][texel] * scale
    np.testing.assert_allclose(displacement_mm / interval, golden["train_gt_index"], rtol=1e-5)
    # a sample point in mm: the loader's position and normal, moved by whole intervals
    mm = golden["pos"][texel] * scale + golden["norm"][texel] * (
        interval * golden["train_d_index"][:, None]
    )
    np.testing.assert_allclose(mm / scale, golden["train_points"].T, atol=1e-5)
