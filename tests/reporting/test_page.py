import csv
import re

import numpy as np
import pytest

from lit_face.io.images import read_image
from lit_face.reporting.page import table_text, write_report
from lit_face.reporting.result import BenchmarkResult, Table

NAN = float("nan")


def result():
    rows = [["PRN <best> & co", 3.14159, NAN], ["mean face", np.float32(20.5), None]]
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:, :, 0] = 200  # red
    return BenchmarkResult(
        name="AFLW2000-3D",
        metrics={"aflw2000/nme": 3.14},
        headline="aflw2000/nme",
        samples=[
            {"image": "image00002", "nme": 3.0, "failed": False},
            {"image": "image00004", "nme": NAN, "failed": True},
        ],
        tables=[Table("Errors", ["method", "NME", "pose"], rows, note="read <here>")],
        curves={"Cumulative error, 2D": {"PRN": np.array([1.0, 2.0, NAN])}},
        pictures={"Best faces: image, mesh. NME 3.1": picture},
        notes=["Failed images count: 1 & 2."],
    )


@pytest.fixture
def report(tmp_path):
    page = write_report(result(), tmp_path, ["checkpoint <x>"], {"ckpt": "a<b>", "seed": 7})
    return tmp_path, page.read_text(encoding="utf-8")


def test_the_page_stands_alone(report):
    """Nothing is fetched: no links, scripts or style sheets; pictures are inside."""
    _, text = report
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    sources = re.findall(r'src="([^"]*)"', text)
    assert [source.split(",")[0] for source in sources] == [
        "data:image/png;base64",
        "data:image/jpeg;base64",
    ]


def test_text_is_escaped_and_missing_numbers_are_dashes(report):
    _, text = report
    assert "PRN &lt;best&gt; &amp; co" in text
    assert "checkpoint &lt;x&gt;" in text
    assert "ckpt: a&lt;b&gt;" in text
    assert "<best>" not in text
    assert "<td>3.14</td><td>–</td>" in text
    assert "<td>20.50</td><td>–</td>" in text
    assert "nan" not in re.sub(r'src="[^"]*"', "", text).lower()


def test_samples_and_pictures_lie_beside_the_page(report):
    folder, _ = report
    with (folder / "samples.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["image"] for row in rows] == ["image00002", "image00004"]
    assert [row["failed"] for row in rows] == ["False", "True"]
    assert sorted(file.name for file in (folder / "pictures").iterdir()) == [
        "best-faces-image-mesh-nme-3-1.jpg",
        "cumulative-error-2d.png",
    ]
    picture = read_image(folder / "pictures" / "best-faces-image-mesh-nme-3-1.jpg")
    np.testing.assert_allclose(picture.mean(axis=(0, 1)), [200, 0, 0], atol=3)


def test_a_table_for_the_terminal():
    table = Table("Errors", ["method", "NME"], [["PRN", 3.14159], ["mean face", NAN]], digits=1)
    assert table_text(table) == "\n".join(
        [
            "Errors",
            "method     NME",
            "--------------",
            "PRN        3.1",
            "mean face    –",
        ]
    )
