"""The framing of a script's output: what mails and terminals do to it, and what was cut off."""

import pytest

from netdiag.errors import BundleError
from netdiag.facts import script_text
from netdiag.model.facts import AbsenceKind

WHOLE = """\
@netdiag/script/1
@tool 0.1.0
@parts swarm firewall
@made 1795566737 worker-1
#
# who this host is
@begin identity
|hostname=manager
@end 0
@begin command in=/run/docker/netns/1-abc ip -j link show
|[]
@end 0
@begin command iptables-save -c
|# Generated
|
|@end 0
!a warning
@end 4
@begin file /etc/none
!no such file
@end missing
@begin docker info
@end 124
@complete
"""


def read(text):
    return script_text.read(text.encode() if isinstance(text, str) else text, "theirs.txt")


def test_blocks_by_name_and_namespace():
    recorded = read(WHOLE)
    assert recorded.head == {"tool": "0.1.0", "parts": "swarm firewall", "made": "1795566737 worker-1"}
    assert recorded.complete
    assert recorded.get("identity").text == "hostname=manager\n"
    assert recorded.get("command ip -j link show") is None
    assert recorded.get("command ip -j link show", "/run/docker/netns/1-abc").text == "[]\n"
    saved = recorded.get("command iptables-save -c")
    # What a host prints cannot end its own block.
    assert (saved.text, saved.errors, saved.code) == ("# Generated\n\n@end 0\n", "a warning", 4)


def test_absences_have_their_kind():
    recorded = read(WHOLE)
    missing, late = recorded.get("file /etc/none").absent, recorded.get("docker info").absent
    assert (missing.kind, missing.text) == (AbsenceKind.MISSING, "file /etc/none: no such file")
    assert late.kind is AbsenceKind.TIMEOUT


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(WHOLE.replace("\n", "\r\n"), id="DOS line ends"),
        pytest.param("Last login: yesterday\n$ sh collect.sh\n" + WHOLE + "$ exit\n", id="a terminal around it"),
        pytest.param("\ufeff\n" + WHOLE, id="a byte order mark in a line before"),
    ],
)
def test_what_mails_and_terminals_do(changed):
    assert script_text.is_script(changed.encode())
    assert read(changed) == read(WHOLE)


def test_a_text_that_is_cut_off_gives_what_it_holds():
    text = WHOLE[: WHOLE.index("|# Generated") + 12]
    recorded = read(text)
    assert not recorded.complete
    assert recorded.get("identity").text == "hostname=manager\n"
    cut = recorded.get("command iptables-save -c").absent
    assert (cut.kind, "cut off" in cut.text) == (AbsenceKind.FAILED, True)


def test_of_a_repeated_block_the_first_counts():
    again = "@begin identity\n|hostname=other\n@end 0\n"
    assert read(WHOLE + again).get("identity").text == "hostname=manager\n"


def test_a_block_without_an_end_before_the_next_failed():
    recorded = read(WHOLE.replace("@end 0\n@begin command in", "@begin command in"))
    assert recorded.get("identity").absent is not None
    assert recorded.get("command iptables-save -c").code == 4


@pytest.mark.parametrize("end", ["", "yes", "-1", "12345"])
def test_a_strange_end_is_a_failure(end):
    recorded = read(WHOLE.replace("@end 4", f"@end {end}".rstrip()))
    assert recorded.get("command iptables-save -c").absent.kind is AbsenceKind.FAILED


def test_another_version_and_no_script_are_said_in_one_line():
    with pytest.raises(BundleError, match=r"theirs.txt: netdiag/script/2 was made by another version"):
        read(WHOLE.replace("script/1", "script/2"))
    with pytest.raises(BundleError, match=r"theirs.txt: not the output of a script"):
        read("hello\n")
    assert not script_text.is_script(b"\x1f\x8b\x08\0")
