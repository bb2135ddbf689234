"""Evaluate a checkpoint on a benchmark.

python evaluate.py ckpt=runs/latest                         the newest run
python evaluate.py ckpt=best.ckpt benchmark=aflw2000         a checkpoint
python evaluate.py --help                                    every group, option and key
"""

try:
    from lit_face.cli import evaluate
except ModuleNotFoundError as error:
    if error.name != "lit_face":
        raise
    raise SystemExit("lit_face is not installed here; run: pip install -e .") from None

if __name__ == "__main__":
    evaluate()
