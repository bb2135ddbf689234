import numpy as np
import pytest

from lit_face.texture_space.pca import IncrementalComponents, exact_components


def maps(count=40, length=300, rank=5, noise=0.0, seed=0):
    random = np.random.default_rng(seed)
    basis = random.normal(size=(rank, length)) * (3.0 ** -np.arange(rank))[:, None]
    codes = random.normal(size=(count, rank))
    return 2 + codes @ basis + noise * random.normal(size=(count, length))


def incremental(values, kept, parts=6):
    running = IncrementalComponents(values.shape[1], kept, values.dtype)
    for part in np.array_split(values, parts):
        running.update(part)
    return running


def test_exact_is_the_singular_value_decomposition():
    values = maps(noise=0.1)
    found = exact_components(values, 10)
    _, singular, rows = np.linalg.svd(values - values.mean(0), full_matrices=False)
    lengths = singular[:10] / np.sqrt(len(values) - 1)
    np.testing.assert_allclose(found.variance, lengths**2)
    same = np.abs((found.directions / lengths[:, None] * rows[:10]).sum(1))
    np.testing.assert_allclose(same, 1)
    assert found.total_variance == pytest.approx(values.var(axis=0, ddof=1).sum())
    assert (found.directions[np.arange(10), np.abs(found.directions).argmax(1)] > 0).all()


@pytest.mark.parametrize(("count", "kept"), [(40, 40), (400, 6)])
def test_incremental_is_exact_where_it_should_be(count, kept):
    """Maps no more than what is kept, or of a rank below it, in any number."""
    values = maps(count)
    exact, found = exact_components(values, 5), incremental(values, kept).components(5)
    np.testing.assert_allclose(found.mean, exact.mean)
    np.testing.assert_allclose(found.variance, exact.variance, rtol=1e-9)
    np.testing.assert_allclose(found.directions, exact.directions, atol=1e-8)
    assert found.total_variance == pytest.approx(exact.total_variance)


def test_with_noise_the_leading_components_are_near():
    values = maps(600, noise=0.01)
    exact, found = exact_components(values, 3), incremental(values, 12, 30).components(3)
    np.testing.assert_allclose(found.variance, exact.variance, rtol=1e-4)
    np.testing.assert_allclose(found.directions, exact.directions, atol=1e-3)


def test_memory_does_not_grow_with_the_maps():
    running = incremental(maps(300, noise=0.1), kept=7)
    assert sum(v.size for v in vars(running).values() if isinstance(v, np.ndarray)) == 8 * 300


def test_order_and_batches_do_not_matter_where_it_is_exact():
    values = maps(50, noise=0.1)
    one, other = incremental(values, 50, 3), incremental(values[::-1].copy(), 50, 10)
    np.testing.assert_allclose(
        one.components(5).directions, other.components(5).directions, atol=1e-8
    )


def test_codes_rebuild_maps_and_the_error_falls():
    values = maps(60)
    found = exact_components(values, 5)
    rebuilt = found.mean + found.codes(values, 5) @ found.directions
    np.testing.assert_allclose(rebuilt, values, atol=1e-8)
    np.testing.assert_allclose(found.codes(values, 5).std(0, ddof=1), 1)
    errors = found.rmse(values, (0, 1, 3, 5, 9))
    assert list(errors.values()) == sorted(errors.values(), reverse=True)
    assert errors[9] == pytest.approx(0, abs=1e-6)
    want = np.sqrt(np.square(values - found.mean).mean())
    assert errors[0] == pytest.approx(want)


def test_single_precision_is_close():
    values = maps(80, noise=0.05)
    exact = exact_components(values, 4)
    found = incremental(values.astype(np.float32), 60, 8).components(4)
    np.testing.assert_allclose(found.variance, exact.variance, rtol=1e-4)
    np.testing.assert_allclose(found.directions, exact.directions, atol=1e-3)


def test_bad_maps_are_refused():
    running = IncrementalComponents(4, 2)
    with pytest.raises(ValueError, match=r"\(n,4\), found"):
        running.update(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="finite"):
        running.update(np.full((1, 4), np.nan))
    with pytest.raises(ValueError, match="at least two maps"):
        running.components(1)
    with pytest.raises(ValueError, match="kept should be"):
        IncrementalComponents(4, 0)
