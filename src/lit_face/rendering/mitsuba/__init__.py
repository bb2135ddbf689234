"""Ray tracing with Mitsuba 3 (optional; docs/ray_tracing.md)."""

from lit_face.rendering.mitsuba.probe import RayTracingUnavailableError, what_is_missing
from lit_face.rendering.mitsuba.renderer import MitsubaRenderer

__all__ = ["MitsubaRenderer", "RayTracingUnavailableError", "what_is_missing"]
