"""The floor: how many tests must have passed, so that a suite that silently runs less does not look green."""

import os
import tomllib
from pathlib import Path

import pytest

FLOOR = Path(__file__).with_name("floor.toml")


def pytest_addoption(parser):
    parser.addoption("--floor", action="store_true", help="Fail unless as many tests passed as tests/floor.toml asks.")


def passed_by_kind(reporter):
    """How many tests passed: those of the lab, and all others."""
    passed = reporter.stats.get("passed", [])
    lab = sum(report.nodeid.startswith("tests/lab/") for report in passed)
    return {"lab": lab, "unit": len(passed) - lab}


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    config = session.config
    if not config.getoption("--floor") or hasattr(config, "workerinput") or exitstatus != 0:
        return
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    wanted = tomllib.loads(FLOOR.read_text())
    if os.geteuid() != 0:
        # Without root no lab can be; its tests say so when they are skipped.
        wanted.pop("lab")
    for kind, count in passed_by_kind(reporter).items():
        if count < wanted.get(kind, 0):
            reporter.write_line(f"only {count} {kind} tests passed; tests/floor.toml asks for {wanted[kind]}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
