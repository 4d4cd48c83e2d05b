"""Whatever a word holds, the shell gives it back as one word and runs nothing."""

import shlex
import subprocess

from hypothesis import given
from hypothesis import strategies as st

from netdiag.shell import operand, shell_text
from tests.property.shell import ATTACKS, TEXTS, active

ANYTHING = TEXTS | st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"))
WORDS = st.lists(ANYTHING | ANYTHING.map("--add-rich-rule={}".format) | ANYTHING.map("--{}".format), max_size=8)


@given(WORDS)
def test_a_shell_splits_it_into_the_same_words(argv):
    text = shell_text(argv)
    assert shlex.split(text) == argv
    assert active(text) == []


def test_real_shells_agree():
    argv = [*ATTACKS, *(f"--option={attack}" for attack in ATTACKS), "two\nlines"]
    for program in (["sh", "-c"], ["bash", "-c"], ["bash", "-O", "expand_aliases", "-c"]):
        result = subprocess.run(
            [*program, f"printf '%s\\0' {shell_text(argv)}"], stdout=subprocess.PIPE, check=True, text=True
        )
        assert result.stdout.split("\0")[:-1] == argv


def test_it_is_readable():
    argv = ["firewall-cmd", "--zone=a b", "--add-rich-rule=rule it's", "plain", 'two words"', "--empty="]
    expected = "firewall-cmd --zone='a b' --add-rich-rule='rule it'\"'\"'s' plain 'two words\"' --empty="
    assert shell_text(argv) == expected


def test_a_name_is_never_an_option():
    assert operand("web-1") == ["web-1"]
    assert operand("-oProxyCommand=id") == ["--", "-oProxyCommand=id"]
