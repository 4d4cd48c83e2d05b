from __future__ import annotations

from pathlib import Path

import pytest

from netdiag.facts.assemble import replay
from netdiag.facts.bundle import Bundle
from netdiag.host.bundles import read_bundle
from netdiag.model.facts import Facts

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def recorded() -> Bundle:
    """A swarm manager with an overlay network, a service and odd routes, as a real engine and kernel answered."""
    return read_bundle(DATA / "swarm-manager.bundle")


@pytest.fixture(scope="session")
def manager(recorded: Bundle) -> Facts:
    return replay(recorded)
