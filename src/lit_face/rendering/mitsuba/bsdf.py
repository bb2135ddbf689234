"""The simplified Cook-Torrance BRDF (`lit_face.rendering.brdf`) as a plugin of Mitsuba."""

from __future__ import annotations

import functools
import math
from typing import Any

PLUGIN = "lit_face_cook_torrance"

# Share of the samples that follow the specular lobe; a constant, so that a picture rendered again
# with the same seed has the same directions whatever the albedo is. Noise of a skin-like ball
# (diffuse 0.4, specular 0.05) is least at 0 for roughness 0.4 and at 0.2 for roughness 0.1.
_SPECULAR_SHARE = 0.15

_SMALLEST_COSINE = 1e-3  # towards the light; below it nothing is reflected
_SMALLEST_ROUGHNESS = 1e-3


@functools.cache
def register(variant: str) -> None:
    """Make the plugin known to the active variant; once is enough."""
    import mitsuba as mi

    mi.register_bsdf(PLUGIN, _make_class())


def _make_class() -> type:
    """Write the class against the types of the active variant."""
    import drjit as dr
    import mitsuba as mi

    class CookTorrance(mi.BSDF):
        """Lambert plus Blinn-Phong lobe, one-sided.

        Properties: the textures `diffuse` and `specular` (three channels) and `roughness` (one),
        and the boolean `has_lobe`; without the lobe the other two maps have no effect.
        Derivatives are those of a detached estimator: directions in world space and their
        densities count as constants, so gradients are unbiased but for moving visibility.
        """

        def __init__(self, props: Any) -> None:
            mi.BSDF.__init__(self, props)
            self.diffuse = props["diffuse"]
            self.specular = props["specular"]
            self.roughness = props["roughness"]
            self.has_lobe = props.get("has_lobe", True)
            self.specular_share = _SPECULAR_SHARE if self.has_lobe else 0.0
            flags = mi.BSDFFlags.GlossyReflection | mi.BSDFFlags.FrontSide
            self.m_components = [flags | mi.BSDFFlags.SpatiallyVarying]
            self.m_flags = self.m_components[0]

        def traverse(self, callback: Any) -> None:
            for name in ("diffuse", "specular", "roughness"):
                callback.put(name, getattr(self, name), mi.ParamFlags.Differentiable)

        def _roughness(self, si: Any, active: Any) -> Any:
            return dr.maximum(self.roughness.eval_1(si, active), _SMALLEST_ROUGHNESS)

        def _is_lit(self, si: Any, wo: Any, active: Any) -> Any:
            """Both directions in front of the shading plane, the light of the triangle as well.

            A triangle that looks away from the camera does not end it: of the two at an edge of
            the silhouette Mitsuba takes either, and half of the outline's gradient would be lost.
            """
            in_front = dr.dot(si.to_local(si.n), wo) > 0
            return active & (si.wi.z > 0) & (wo.z > _SMALLEST_COSINE) & in_front

        def _value(self, si: Any, wo: Any, active: Any) -> Any:
            is_lit = self._is_lit(si, wo, active)
            diffuse = dr.maximum(self.diffuse.eval(si, active), 0) * (wo.z / math.pi)
            if not self.has_lobe:
                return diffuse & is_lit
            ks = dr.maximum(self.specular.eval(si, active), 0)
            roughness = self._roughness(si, active)
            half = dr.normalize(si.wi + wo)
            exponent = dr.maximum(2 / roughness - 2, 0)
            density = (exponent + 2) / (2 * math.pi) * dr.power(dr.maximum(half.z, 1e-6), exponent)
            fresnel = ks + (1 - ks) * (1 - dr.abs(dr.dot(half, wo))) ** 5
            shadow = _smith(si.wi.z, roughness) * _smith(wo.z, roughness)
            lobe = fresnel * density * shadow / (4 * dr.maximum(si.wi.z, 1e-6))
            return (diffuse + lobe) & is_lit

        def _density(self, si: Any, wo: Any, active: Any) -> Any:
            """Density of `sample` over solid angle, a constant to derivatives."""
            with dr.suspend_grad():
                half = dr.normalize(si.wi + wo)
                power = dr.maximum(2 / self._roughness(si, active) - 1, 1)
                of_half = (power + 1) / (2 * math.pi) * dr.power(dr.maximum(half.z, 0), power)
                specular = of_half / dr.maximum(4 * dr.abs(dr.dot(half, wo)), 1e-6)
                diffuse = wo.z / math.pi
                value = dr.lerp(diffuse, specular, self.specular_share)
                return dr.select(active & (si.wi.z > 0) & (wo.z > 0), dr.detach(value), 0)

        def _direction(self, si: Any, choice: Any, point: Any, active: Any) -> Any:
            """Draw a direction towards the light, local frame; fixed in world space."""
            with dr.suspend_grad():
                power = dr.maximum(2 / self._roughness(si, active) - 1, 1)
                cosine = dr.power(dr.maximum(point.x, 1e-7), 1 / (power + 1))
                sine = dr.safe_sqrt(1 - cosine * cosine)
                sin_angle, cos_angle = dr.sincos(2 * math.pi * point.y)
                half = mi.Vector3f(sine * cos_angle, sine * sin_angle, cosine)
                mirrored = 2 * dr.dot(si.wi, half) * half - si.wi
                spread = mi.warp.square_to_cosine_hemisphere(point)
                local = dr.select(choice < self.specular_share, mirrored, spread)
                world = dr.detach(si.to_world(local))
            return si.to_local(world)

        def sample(
            self, ctx: Any, si: Any, sample1: Any, sample2: Any, active: Any = True
        ) -> tuple[Any, Any]:
            wo = self._direction(si, sample1, sample2, active)
            result = mi.BSDFSample3f()
            result.wo = wo
            result.pdf = self._density(si, wo, active)
            result.eta = 1.0
            result.sampled_type = mi.UInt32(+self.m_flags)
            result.sampled_component = mi.UInt32(0)
            active = active & (result.pdf > 0)
            return result, (self._value(si, wo, active) / result.pdf) & active

        def eval(self, ctx: Any, si: Any, wo: Any, active: Any = True) -> Any:
            return self._value(si, wo, active)

        def pdf(self, ctx: Any, si: Any, wo: Any, active: Any = True) -> Any:
            return self._density(si, wo, active)

        def eval_pdf(self, ctx: Any, si: Any, wo: Any, active: Any = True) -> tuple[Any, Any]:
            return self._value(si, wo, active), self._density(si, wo, active)

        def to_string(self) -> str:
            return f"CookTorrance[{self.diffuse}, {self.specular}, {self.roughness}]"

    def _smith(cosine: Any, roughness: Any) -> Any:
        """Share that masking leaves: Schlick's rational fit of Smith's function for Beckmann."""
        sine = dr.sqrt(dr.maximum(1 - cosine * cosine, 1e-8))
        q = cosine / (dr.sqrt(roughness) * sine)
        fit = (3.535 * q + 2.181 * q * q) / (1 + 2.276 * q + 2.577 * q * q)
        return dr.select(q >= 1.6, 1, fit)

    return CookTorrance
