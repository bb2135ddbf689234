"""Reconstruct the faces of photos.

python reconstruct.py ckpt=runs/latest input=photos out=faces      a folder, or one photo
python reconstruct.py ckpt=best.ckpt 'input=photos/*.jpg' out=faces 'outputs=[glb,depth]'
python reconstruct.py --help                                       every group, option and key
"""

try:
    from lit_face.cli import reconstruct
except ModuleNotFoundError as error:
    if error.name != "lit_face":
        raise
    raise SystemExit("lit_face is not installed here; run: pip install -e .") from None

if __name__ == "__main__":
    reconstruct()
