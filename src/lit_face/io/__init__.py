"""Files in and out: images, meshes, .mat, model files, atomic writes."""
