"""Edit faces in photos: eyes, nose, mouth or all of it from another photo or a texture file.

python edit_texture.py ckpt=prn input=me.jpg reference=you.jpg out=edited
python edit_texture.py ckpt=prn input=photos reference=you.jpg 'region=[eyes,mouth]' out=edited
python edit_texture.py --help                                     every group, option and key
"""

try:
    from lit_face.cli import edit_texture
except ModuleNotFoundError as error:
    if error.name != "lit_face":
        raise
    raise SystemExit("lit_face is not installed here; run: pip install -e .") from None

if __name__ == "__main__":
    edit_texture()
