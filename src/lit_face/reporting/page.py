"""A benchmark's result as files: CSV, pictures and one self-contained page."""

from __future__ import annotations

import base64
import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from jinja2 import Environment, PackageLoader
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lit_face.io.files import atomic_write
from lit_face.io.images import write_image
from lit_face.reporting.curves import cumulative_error_curve
from lit_face.reporting.result import BenchmarkResult, Table


def write_report(
    result: BenchmarkResult, folder: Path, facts: list[str], config: Mapping[str, Any]
) -> Path:
    """Write `samples.csv`, `pictures/`, curves and `report.html`; return the page's path.

    Args:
        result: of the benchmark.
        folder: made where absent.
        facts: short phrases under the title (checkpoint, date, device).
        config: plain config, shown at the page's end.
    """
    write_samples(result.samples, folder / "samples.csv")
    pictures = []
    for caption, picture in report_pictures(result).items():
        kind = "png" if caption in result.curves else "jpeg"
        suffix = kind.replace("e", "")
        write_image(folder / "pictures" / f"{_file_name(caption)}.{suffix}", picture)
        pictures.append((caption, _data_uri(_encoded(picture, suffix), kind)))
    page = folder / "report.html"
    text = _template().render(
        title=result.name,
        facts=facts,
        notes=result.notes,
        tables=result.tables,
        pictures=pictures,
        config=yaml.safe_dump(dict(config), sort_keys=False),
    )
    with atomic_write(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return page


def write_samples(samples: list[dict[str, Any]], file: Path) -> None:
    """Write one row an image."""
    with atomic_write(file) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(samples[0]) if samples else [])
        writer.writeheader()
        writer.writerows(samples)


def table_text(table: Table) -> str:
    """Lay a table out for a terminal."""
    rows = [table.columns, *[[_number(v, table.digits) for v in row] for row in table.rows]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    rule = "-" * len(lines[0])
    return "\n".join([table.title, lines[0], rule, *lines[1:]])


def report_pictures(result: BenchmarkResult) -> dict[str, np.ndarray]:
    """Return every picture (H,W,3) uint8 by caption: cumulative error curves, then examples."""
    curves = {
        title: figure_pixels(cumulative_error_curve(errors, title))
        for title, errors in result.curves.items()
    }
    return {**curves, **result.pictures}


def figure_pixels(figure: Figure) -> np.ndarray:
    """Draw a figure into (H,W,3) uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _template() -> Any:
    environment = Environment(loader=PackageLoader("lit_face.reporting"), autoescape=True)
    environment.filters["number"] = _number
    return environment.get_template("report.html")


def _number(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float | np.floating):
        return f"{value:.{digits}f}"
    return str(value)


def _encoded(picture: np.ndarray, suffix: str) -> bytes:
    return cv2.imencode(f".{suffix}", picture[..., ::-1])[1].tobytes()


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _file_name(title: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())
