"""Links of the pages lead somewhere, and the commands they show pass the pre-flight check."""

import functools
import re
import shlex

import pytest

from lit_face.config import check_config
from lit_face.config.composition import check_overrides, compose_config
from tests.helpers.runs import REPO

PAGES = [
    REPO / "README.md",
    *sorted((REPO / "docs").rglob("*.md")),
    *sorted((REPO / "src").rglob("README.md")),
]
EXAMPLES = ("add_a_method.md", "add_a_dataset.md")  # tested by doing what they say
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
# A command ends at a backtick, at "&&" or at the gap before a remark.
_SCRIPTS = "train|evaluate|reconstruct|export|edit_texture"
_COMMAND = re.compile(rf"(?<!\$ )\bpython ({_SCRIPTS})\.py((?: (?! |&&)[^\s`]+)*)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_links_lead_somewhere(page):
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def commands():
    found = set()
    for page in PAGES:
        if page.name not in EXAMPLES:
            found |= set(_COMMAND.findall(page.read_text(encoding="utf-8")))
    return sorted(found)


@functools.cache
def composed(script, overrides):
    return compose_config(script, overrides)


@pytest.mark.parametrize(("script", "arguments"), commands(), ids=str.strip)
def test_commands_pass_the_check(monkeypatch, script, arguments):
    # Commands that differ in values only are compared with the same groups' keys.
    monkeypatch.setattr(
        "lit_face.config.composition.compose_config",
        lambda name, overrides: composed(name, tuple(overrides)),
    )
    words = shlex.split(arguments)
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    if script == "reconstruct" and "method=uv_implicit" in overrides:  # as the script does
        script = "reconstruct_views"
        overrides.remove("method=uv_implicit")
    problems, good = check_overrides(script, overrides)
    assert not problems
    if "-m" not in words:
        check_config(composed(script, tuple(good)))
