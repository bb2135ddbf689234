"""The public names, written down: one that is renamed or lost shows up as a changed file.

A package with __all__ says what is public; the modules in it are its own business. Refresh the
file after a change on purpose, and commit it with it:

    LIT_FACE_REFRESH=1 python -m pytest tests/config/test_golden.py tests/test_api.py
"""

import ast
from pathlib import Path

from tests.helpers.golden import FOLDER, compare

REPO = Path(__file__).resolve().parents[1]


def declared(tree):
    """Return __all__, or None."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return sorted(ast.literal_eval(node.value))
    return None


def defined(tree):
    """Return functions and classes without a leading underscore."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = [node.name for node in tree.body if isinstance(node, kinds)]
    return sorted(name for name in names if not name.startswith("_"))


def lines(folder, module):
    """Yield one line a module of a package, in order, subpackages included."""
    own = ast.parse((folder / "__init__.py").read_text())
    if declared(own) is not None:
        yield f"{module}: {', '.join(declared(own))}\n"
        return
    if defined(own):
        yield f"{module}: {', '.join(defined(own))}\n"
    for path in sorted(folder.iterdir()):
        if path.name.startswith(("_", ".")):
            continue
        if (path / "__init__.py").is_file():
            yield from lines(path, f"{module}.{path.name}")
        elif path.suffix == ".py":
            tree = ast.parse(path.read_text())
            names = declared(tree) or defined(tree)
            yield f"{module}.{path.stem}: {', '.join(names)}\n" if names else ""


def test_public_names():
    packages = [(REPO / "src/lit_face", "lit_face")]
    packages += [(REPO / name, name) for name in ("datamodules", "callbacks")]
    compare(FOLDER / "api.txt", "".join(line for each in packages for line in lines(*each)))
