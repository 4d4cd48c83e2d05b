"""Whether an sshd looks up its clients: from its command line, and from the files of its own root."""

import os
import subprocess
import sys

import pytest

from netdiag.participant import sshd
from netdiag.participant.verbs import run

FILES = {
    "plain": ({"sshd_config": "Port 22\nUseDNS yes\nUseDNS no\n"}, "yes", "/etc/ssh/sshd_config"),
    "other spelling": ({"sshd_config": 'usedns = "NO" # not here\n'}, "no", "/etc/ssh/sshd_config"),
    "commented out": ({"sshd_config": "#UseDNS yes\n"}, "", ""),
    "no file": ({}, "", ""),
    "included first": (
        {
            "sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nUseDNS no\n",
            "sshd_config.d/b.conf": "UseDNS no\n",
            "sshd_config.d/a.conf": "UseDNS yes\n",
            "sshd_config.d/0.bak": "UseDNS no\n",
        },
        "yes",
        "/etc/ssh/sshd_config.d/a.conf",
    ),
    "included and silent": (
        {"sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nUseDNS yes\n", "sshd_config.d/a.conf": "Port 1\n"},
        "yes",
        "/etc/ssh/sshd_config",
    ),
    "included from elsewhere": ({"sshd_config": "Include /root/*.conf\n"}, "", ""),
}


@pytest.mark.parametrize("row", FILES.values(), ids=FILES)
def test_the_first_value_of_its_files(tmp_path, row):
    files, value, where = row
    for name, text in files.items():
        file = tmp_path / "ssh" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    etc = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert sshd._of_files(etc) == {"use_dns": value, "where": where}
    finally:
        os.close(etc)


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("UseDNS yes\n")
    (tmp_path / "ssh").mkdir()
    (tmp_path / "ssh" / "sshd_config").symlink_to(tmp_path / "secret")
    etc = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert sshd._of_files(etc)["use_dns"] == ""
    finally:
        os.close(etc)


@pytest.mark.parametrize(
    "words",
    [
        ["-o", "UseDNS=yes"],
        ["-oUseDNS yes"],
        ["-D", "-o", "Port=2", "-o", "usedns yes"],
        ["sshd: /usr/sbin/sshd -D -o UseDNS=yes [listener] 0 of 10-100 startups"],
    ],
)
def test_its_command_line_counts_first(words):
    program = "import sys; print(flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program, *words], **pipes) as process:
        process.stdout.readline()
        answer = run({"verb": "sshd-lookup", "params": {"pid": process.pid}, "timeout_s": 2.0})
        process.stdin.close()
    assert answer["data"] == {"use_dns": "yes", "where": "its command line"}


def test_a_process_that_has_ended():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert run({"verb": "sshd-lookup", "params": {"pid": process.pid}})["error"]["kind"] == "missing"
