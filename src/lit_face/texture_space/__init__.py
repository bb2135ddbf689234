"""Texture spaces from fitted photos: complete their maps, find the components, write the file."""
