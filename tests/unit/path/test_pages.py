"""Every finding of a diagnosis has its page."""

import re
from pathlib import Path

import netdiag.path
from netdiag.path.pages import PAGES

FOUND = re.compile(r'check="(path\.[a-z-]+)"')


def test_every_finding_has_a_page():
    files = [
        *Path(netdiag.path.__file__).parent.glob("*.py"),
        *Path(netdiag.path.__file__).parents[1].glob("host/*.py"),
    ]
    written = {name for file in files for name in FOUND.findall(file.read_text())}
    assert len(written) >= 4
    assert written == set(PAGES)
