"""Procedural photographs: heads with hair, clothes, light, background, occluders, camera."""
