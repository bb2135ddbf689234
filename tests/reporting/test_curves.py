import numpy as np
import pytest

from lit_face.reporting.curves import cumulative_error_curve


def line(figure, number=0):
    """A curve's corners as (errors, shares), without matplotlib's leading corner."""
    errors, shares = figure.axes[0].lines[number].get_data()
    return np.asarray(errors, float), np.asarray(shares, float)


def share_at(figure, error, number=0):
    errors, shares = line(figure, number)
    return shares[np.searchsorted(errors, error, side="right") - 1]


def test_the_curve_is_the_share_of_images_below_an_error():
    values = np.random.default_rng(0).gamma(2.0, 2.0, size=50)
    figure = cumulative_error_curve({"a": values}, "title", limit=20.0)
    for error in (0.5, 2.0, 7.0, 19.0):
        assert share_at(figure, error) == pytest.approx(100 * (values <= error).mean())
    assert figure.axes[0].get_title() == "title"
    assert figure.axes[0].get_xlim() == (0, 20)


def test_failures_lower_the_end():
    whole = np.array([1.0, 2.0, 3.0, 4.0])
    failed = np.array([1.0, np.nan, 3.0, np.inf])
    figure = cumulative_error_curve({"whole": whole, "failed": failed}, "title", limit=10.0)
    assert line(figure, 0)[1][-1] == 100
    assert line(figure, 1)[1][-1] == 50
    assert share_at(figure, 2.5, 1) == 25
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["whole", "failed"]


def test_a_method_that_failed_everywhere_is_a_line_at_zero():
    errors = {"good": np.array([1.0, 2.0]), "bad": np.array([np.nan, np.nan])}
    figure = cumulative_error_curve(errors, "title", limit=5.0)
    assert line(figure, 1)[1].max() == 0
