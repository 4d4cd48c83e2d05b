"""Runs netdiag on a lab host as an operator would, and reads its JSON."""

import json

import msgspec

from netdiag.model.report import Report


class Answered:
    """A report together with what it takes to assert on it."""

    def __init__(self, document, returncode, stdout, stderr):
        self.document = document
        self.report = msgspec.convert(document, Report)
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr

    @property
    def answers(self):
        return self.document["answers"]

    def findings(self, check):
        """The findings of one check."""
        return [finding for finding in self.document["findings"] if finding["check"] == check]

    def states(self, check):
        return {finding["state"] for finding in self.findings(check)}

    def failed(self):
        """Check id and cause code of everything that failed."""
        causes = self.document["causes"]
        return {
            (finding["check"], causes[finding["cause"]]["code"] if finding.get("cause") is not None else None)
            for finding in self.document["findings"]
            if finding["state"] == "fail"
        }

    def cause(self, code):
        """The one cause of this code."""
        found = [cause for cause in self.document["causes"] if cause["code"] == code]
        assert len(found) == 1, (code, [cause["code"] for cause in self.document["causes"]])
        return found[0]

    def codes(self):
        return [cause["code"] for cause in self.document["causes"]]


def ask(host, *words, token=None, expect=None):
    """Run ``netdiag WORDS --output json`` on a host; ``expect`` is its exit code."""
    env = {"NETDIAG_TOKEN": token} if token else {}
    result = host.exec(["netdiag", *words, "--output", "json"], env=env, check=False, timeout_s=30)
    assert result.returncode in (0, 1, 3), result.stderr
    assert "Traceback" not in result.stderr
    if token:
        assert token not in result.stdout + result.stderr
    if expect is not None:
        assert result.returncode == expect, result.stdout
    return Answered(json.loads(result.stdout), result.returncode, result.stdout, result.stderr)


def preflight(host, manager, *words, **kwargs):
    return ask(host, "preflight", "swarm", "--manager", manager, *words, **kwargs)
