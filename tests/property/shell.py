"""What a shell makes of a command: what is left of it outside of quotes, and texts that want to be more than a word."""

import re

from hypothesis import strategies as st

QUOTED = re.compile(r"'[^']*'|\"[^\"$`\\!]*\"")
ACTIVE = set("$`!\n;|&<>(){}*?[]~#\\\"'")

ATTACKS = (
    *(
        "$(touch /tmp/x)",
        "`id`",
        "it's",
        "a;b",
        "a|b",
        "a&&b",
        "!!",
        "a!b",
        'a"b',
        "\\",
        "a\\",
        "${HOME}",
        "$HOME",
        "*",
    ),
    *(
        "~root",
        "#x",
        "a b",
        "",
        "-F",
        "--x=$(id)",
        "x=`id`",
        "a'b'c",
        "'",
        "''",
        "{a,b}",
        "<(id)",
        ">x",
        "\t",
        "ü",
        "\x1b[2J",
    ),
)

TEXTS = st.one_of(
    st.sampled_from(ATTACKS),
    st.lists(st.sampled_from(ATTACKS), min_size=1, max_size=4).map(" ".join),
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\n\r"), max_size=30),
)
"""One line of anything."""


def active(command):
    """The characters outside of quotes that mean something to a shell."""
    return sorted(ACTIVE & set(QUOTED.sub("", command)))
