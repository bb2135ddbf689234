"""From a photo to a face in 3D: find faces, crop, run a method, write what was asked for.

`lit_face.load(FILE)` is the way in; `python reconstruct.py` does the same for folders of photos.
"""
