"""Training-time side effects, one callback a file."""

import lit_face  # noqa: F401  (arms the torchvision repair)
