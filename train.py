"""Train a method.

python train.py                                  PRN on the built-in miniature
python train.py method=prn trainer.devices=4     the paper's network on four GPUs
python train.py --help                           every group, option and key
"""

try:
    from lit_face.cli import train
except ModuleNotFoundError as error:
    if error.name != "lit_face":
        raise
    raise SystemExit("lit_face is not installed here; run: pip install -e .") from None

if __name__ == "__main__":
    train()
