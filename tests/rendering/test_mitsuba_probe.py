import os
import subprocess
import sys

import pytest

from lit_face.rendering.mitsuba import probe
from tests.helpers.ray_tracing import REQUIRED, need_ray_tracing


@pytest.fixture(autouse=True)
def _forget_what_was_found():
    probe._usable_llvm.cache_clear()
    yield
    probe._usable_llvm.cache_clear()


def library(folder, name):
    path = folder / name
    path.write_bytes(b"not a library")
    return path


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("libLLVM-19.so", 19),
        ("libLLVM-15.so.1", 15),
        ("libLLVM-14.0.6.so.1", 14),
        ("libLLVM.so.19.1", 19),
        ("libLLVM.so", None),
        ("libLLVM.dylib", None),
    ],
)
def test_version_is_read_from_the_name(tmp_path, name, version):
    assert probe.llvm_version(library(tmp_path, name)) == version


def test_version_is_read_through_a_link(tmp_path):
    (tmp_path / "libLLVM.so").symlink_to(library(tmp_path, "libLLVM.so.20.1"))
    assert probe.llvm_version(tmp_path / "libLLVM.so") == 20


def test_newest_library_comes_first_and_old_ones_never(tmp_path):
    for name in ("libLLVM-14.so.1", "libLLVM-15.so", "libLLVM-16.so.1", "libLLVM-17.so.1"):
        library(tmp_path, name)
    for name in ("libLLVM.so.19.1", "libLLVM-22.so", "libLLVM.so"):
        library(tmp_path, name)
    (tmp_path / "libLLVM-19.so").symlink_to("libLLVM.so.19.1")
    found = [path.name for path in probe.find_llvm([str(tmp_path)])]
    assert found == ["libLLVM-22.so", "libLLVM.so.19.1", "libLLVM-17.so.1", "libLLVM.so"]


def test_absent_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv(probe.VARIABLE, str(tmp_path / "libLLVM-19.so"))
    monkeypatch.setattr(probe.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(probe.RayTracingUnavailableError, match=r"libLLVM-19.so, which is no file"):
        probe.require_ray_tracing()


def test_old_llvm_is_refused_before_it_is_loaded(monkeypatch, tmp_path):
    path = library(tmp_path, "libLLVM-15.so.1")
    monkeypatch.setenv(probe.VARIABLE, str(path))
    monkeypatch.setattr(probe.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(probe.RayTracingUnavailableError, match="points at LLVM 15") as error:
        probe.require_ray_tracing()
    assert "libllvm19" in str(error.value)
    assert probe.what_is_missing() == str(error.value)


def test_broken_library_is_found_out_in_a_child(monkeypatch, tmp_path):
    need_ray_tracing()
    probe._usable_llvm.cache_clear()
    path = library(tmp_path, "libLLVM-19.so")
    monkeypatch.setenv(probe.VARIABLE, str(path))
    with pytest.raises(probe.RayTracingUnavailableError, match="with which Mitsuba fails"):
        probe.require_ray_tracing()


def test_death_of_the_child_is_told_and_survived(monkeypatch):
    dead = subprocess.CompletedProcess([], -6, "", "LLVM ERROR: Cannot select: fminimum")
    monkeypatch.setattr(probe.subprocess, "run", lambda *args, **kwargs: dead)
    assert probe._try_variant.__wrapped__("llvm_ad_rgb", "x") == (
        "the process was killed by SIGABRT"
    )


def test_search_without_result_says_what_to_install(monkeypatch):
    monkeypatch.delenv(probe.VARIABLE, raising=False)
    monkeypatch.setattr(probe.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(probe, "find_llvm", lambda: [])
    with pytest.raises(probe.RayTracingUnavailableError) as error:
        probe.require_ray_tracing()
    for word in ("libllvm19", probe.VARIABLE, "15 and 16 abort"):
        assert word in str(error.value)


def test_absent_package_is_named(monkeypatch):
    monkeypatch.setattr(probe.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install \"lit_face\[raytrace\]\""):
        probe.require_ray_tracing()


def test_import_is_light():
    code = (
        "import sys, lit_face.rendering.mitsuba as m; "
        "sys.exit('mitsuba' in sys.modules or 'drjit' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not os.environ.get(REQUIRED), reason=f"{REQUIRED} is not set")
def test_ray_tracing_is_here_where_it_is_required():
    assert probe.what_is_missing() is None
