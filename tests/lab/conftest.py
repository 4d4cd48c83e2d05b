"""Labs for tests: one for each module that asks for it, taken down with the module, and nothing may be left of any."""

import itertools
import os
from pathlib import Path

import pytest

from netdiag.errors import LabToolMissing
from netdiag.lab import Lab, load_topology
from netdiag.lab.residue import residue
from netdiag.lab.root import find
from tests.lab.participants import carrier_into


def pytest_collection_modifyitems(items):
    """Everything below this directory needs the lab. (``--dist loadfile`` keeps a module's tests with the module's lab.)"""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="session")
def lab_root():
    """The lab's tools, or the reason why there is no lab."""
    try:
        return find()
    except LabToolMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def lab_names():
    """A name that no other lab of this machine has, as often as it is called; at the end nothing is left of any."""
    used = []
    numbers = itertools.count(1)

    def name():
        used.append(f"t-{os.getpid()}-{next(numbers)}")
        return used[-1]

    yield name
    assert [line for each in used for line in residue(each)] == []


@pytest.fixture(scope="session")
def up(lab_root, lab_names):
    """Start a lab from a topology's name; use it in a with statement."""

    def start(topology):
        return Lab.up(load_topology(topology), name=lab_names())

    return start


def _module_lab(topology):
    @pytest.fixture(scope="module", name=f"{topology}_lab")
    def lab(up):
        with up(topology) as running:
            yield running

    return lab


pair_lab = _module_lab("pair")
swarm2_lab = _module_lab("swarm2")
swarm3_lab = _module_lab("swarm3")
story1_lab = _module_lab("story1")


@pytest.fixture(scope="module")
def sides(pair_lab):
    """A participant on each of the two hosts without engines."""
    with carrier_into(pair_lab.host("one")) as one, carrier_into(pair_lab.host("two")) as two:
        yield one, two


@pytest.fixture
def ssh_pair(pair_lab):
    """Two hosts without engines; from the first, ``ssh two`` or ``ssh root@ADDRESS`` logs in to the second."""
    pair_lab.break_("sshd", host="two")
    return pair_lab.host("one"), pair_lab.host("two")


@pytest.fixture(autouse=True)
def _healed(request):
    """Take out the faults that a test left in its module's labs."""
    yield
    for name in request.fixturenames:
        if name.endswith("_lab"):
            running = request.getfixturevalue(name)
            if isinstance(running, Lab):
                running.heal_all()
