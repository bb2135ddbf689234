"""One table of tolerances a dtype; a local override in a test says why."""

import torch

ATOL = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 2e-2}
RTOL = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def assert_close(actual, expected, **overrides):
    """Compare tensors (or arrays) with the table's tolerance of the actual value's dtype."""
    actual, expected = torch.as_tensor(actual), torch.as_tensor(expected)
    tolerance = {"atol": ATOL.get(actual.dtype, 0.0), "rtol": RTOL.get(actual.dtype, 0.0)}
    torch.testing.assert_close(actual, expected, check_dtype=False, **{**tolerance, **overrides})
