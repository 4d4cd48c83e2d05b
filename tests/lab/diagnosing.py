"""Runs netdiag diagnose on a lab host as an operator would, and runs what it proposes."""

import contextlib
import json


def diagnose(lab, source, destination, *words, code, at="manager"):
    """The report of a diagnosis by ssh, with its exit code as expected."""
    argv = ["netdiag", "diagnose", source, destination, "--via", "ssh", *words, "--output", "json"]
    result = lab.host(at).exec(argv, check=False)
    assert "Traceback" not in result.stderr
    assert code in (None, result.returncode), result.stdout + result.stderr
    return json.loads(result.stdout)


def only_cause(report):
    (found,) = report["causes"]
    return found


def said(cause):
    """What is asserted of every cause: its code, its host and how sure it is."""
    return cause["code"], cause["host"], cause["confidence"]


@contextlib.contextmanager
def healed(lab, cause):
    """With the proposed commands run, and undone afterwards where there is something that undoes them."""
    (remedy,) = cause["remedy"]
    for command in remedy["commands"]:
        lab.host(remedy["host"]).exec(["sh", "-c", command])
    yield
    for command in remedy["undo"]:
        lab.host(remedy["host"]).exec(["sh", "-c", command])


def inside(lab, host, container):
    """What enters a container's network namespace."""
    pid = lab.host(host).exec(["docker", "inspect", "-f", "{{.State.Pid}}", container]).stdout.strip()
    return ["nsenter", "-n", "-t", pid]
