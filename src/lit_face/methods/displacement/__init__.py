"""Mesoscopic displacement from facial textures (pix2pixHD generator, as FaceScape releases)."""
