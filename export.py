"""Write a checkpoint in a portable form.

python export.py ckpt=runs/latest out=prn            a folder: safetensors and config
python export.py ckpt=runs/latest out=prn.onnx       one ONNX file, checked in onnxruntime
python export.py --help                              every option
"""

try:
    from lit_face.cli import export
except ModuleNotFoundError as error:
    if error.name != "lit_face":
        raise
    raise SystemExit("lit_face is not installed here; run: pip install -e .") from None

if __name__ == "__main__":
    export()
