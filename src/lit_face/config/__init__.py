"""Pre-flight check of composed configs, allow-listed instantiate, run folders."""

from lit_face.config.check import check_config
from lit_face.config.instantiate import ConfigError, instantiate, locate

__all__ = ["ConfigError", "check_config", "instantiate", "locate"]
