"""Notice a model in another unit than its format's: heads are 13 to 40 cm tall."""

from __future__ import annotations

_UNITS_MM = {"micrometres": 1e-3, "millimetres": 1.0, "centimetres": 10.0, "metres": 1000.0}
_TALL_MM = (130.0, 400.0)  # from a face without forehead and neck to a whole head


def height_problems(height: float, unit: str) -> list[str]:
    """Return what is wrong with the height of a mean head, naming the factor that mends it.

    Args:
        height: extent along y, in the file's numbers.
        unit: of the format: micrometres, millimetres, centimetres or metres.
    """
    low, high = _TALL_MM
    if low <= height * _UNITS_MM[unit] <= high:
        return []
    for other, length in _UNITS_MM.items():
        if low <= height * length <= high:
            factor = length / _UNITS_MM[unit]
            return [f"in {other}, not {unit}: multiply shape and expression by {factor:g}"]
    found = height * _UNITS_MM[unit]
    return [f"the mean head is {found:.4g} mm tall, expected {low:.0f} to {high:.0f}"]
