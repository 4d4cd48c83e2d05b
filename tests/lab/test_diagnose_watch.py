"""A diagnosis that is repeated: a line for each change, one connection for all rounds, and a clean end."""

import contextlib
import json
import queue
import signal
import threading

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until

PORT = 8000
DROP = ["INPUT", "-p", "tcp", "--dport", str(PORT), "-j", "DROP"]
PATIENCE_S = 40.0


class Watching:
    """A running ``netdiag diagnose --watch``."""

    def __init__(self, host, *words):
        argv = ["netdiag", "diagnose", "one", f"two:{PORT}", "--via", "ssh", "--watch", "--interval", "1", *words]
        self._host, self.process = host, host.popen(argv)
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line)

    def line(self, within_s=PATIENCE_S):
        """The next change."""
        return self._lines.get(timeout=within_s)

    def end(self, number):
        """Send it a signal, and wait: the exit code, and what it said on standard error."""
        self._host.exec(["pkill", f"-{number.value}", "-f", "netdiag diagnose one"])
        self.process.wait(PATIENCE_S)
        assert self._lines.empty()
        return self.process.returncode, self.process.stderr.read()


@pytest.fixture
def hosts(ssh_pair):
    one, two = ssh_pair
    server = two.popen(["busybox", "httpd", "-f", "-p", str(PORT)])
    try:
        until(lambda: f":{PORT}" in two.exec(["ss", "-lnt"]).stdout, 10.0, "the server")
        yield one, two
    finally:
        end_group(server)


@contextlib.contextmanager
def watching(host, *words):
    one = Watching(host, *words)
    try:
        yield one
    finally:
        end_group(one.process)


def participants(host):
    return set(host.exec(["pgrep", "-f", "netdiag-ready"], check=False).stdout.split())


def test_every_change_is_a_line_over_one_connection(hosts):
    one, two = hosts
    with watching(one) as watch:
        assert " healthy: tcp/8000 from one to two" in watch.line()
        first = participants(two)
        two.exec(["iptables", "-I", *DROP])
        try:
            assert " lost: firewall.rule (proven) on two: rule 1 of filter INPUT" in watch.line()
        finally:
            two.exec(["iptables", "-D", *DROP])
        assert " healthy: " in watch.line()
        assert participants(two) == first
        assert watch.end(signal.SIGTERM) == (0, "")
    until(lambda: not participants(two), 15.0, "the participant's end")


def test_json_lines_and_the_exit_code_of_the_last_state(hosts):
    one, two = hosts
    two.exec(["iptables", "-I", *DROP])
    try:
        with watching(one, "--output", "json") as watch:
            report = json.loads(watch.line())
            assert (report["schema"], report["verdict"]) == ("netdiag/report/1", "fail")
            assert report["causes"][0]["host"] == "two"
            assert watch.end(signal.SIGINT) == (1, "")
    finally:
        two.exec(["iptables", "-D", *DROP])


def test_a_connection_that_ends_is_made_again(hosts):
    one, two = hosts
    with watching(one) as watch:
        assert " healthy: " in watch.line()
        first = participants(two)
        two.exec(["pkill", "-9", "-f", "netdiag-ready"])
        until(lambda: participants(two) - first, PATIENCE_S, "another participant")
        # Whether or not a round was under way, it ends healthy again, and the loss of a connection is no lost flow.
        code, said = watch_until_healthy(watch)
        assert code == 0
        assert "Traceback" not in said


def watch_until_healthy(watch):
    """Let rounds pass until it says that all is well, or says nothing since nothing changed; then end it."""
    with contextlib.suppress(queue.Empty):
        while "healthy" not in (line := watch.line(4.0)):
            assert " unknown: " in line, line
    return watch.end(signal.SIGTERM)


def test_a_first_round_that_cannot_be_is_a_wrong_usage(hosts):
    result = hosts[0].exec(["netdiag", "diagnose", "one", "nosuchhost", "--watch"], check=False)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
