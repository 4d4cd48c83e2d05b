"""Whatever is given as a rule set is read and asked without a traceback, and what is not understood decides nothing."""

from hypothesis import given, settings
from hypothesis import strategies as st

from netdiag.facts.standing_rules import needs_of
from netdiag.firewall.explain import Explainer, read_rule_file
from netdiag.firewall.laid_out import laid_out
from netdiag.firewall.lint_registry import lint
from netdiag.firewall.standing import of_files
from netdiag.model.explain import PacketLine
from netdiag.model.trace import TraceVerdict
from netdiag.report import lint_lines, show_lines

PACKET = PacketLine(source="192.0.2.21", destination="192.0.2.10", in_device="eth0", proto="tcp", sport=4000, dport=22)
WORDS = [
    "-A",
    "INPUT",
    "FORWARD",
    "U",
    "-p",
    "tcp",
    "udp",
    "icmp",
    "all",
    "!",
    "-s",
    "-d",
    "10.0.0.0/8",
    "192.0.2.21",
    "fe80::1",
    "-i",
    "eth0",
    "-o",
    "eth+",
    "-m",
    "state",
    "--state",
    "NEW",
    "conntrack",
    "--ctstate",
    "ESTABLISHED,DNAT",
    "--dport",
    "--sport",
    "22",
    "1:1023",
    "multiport",
    "--dports",
    "22,80",
    "set",
    "--match-set",
    "s",
    "src,dst",
    "-j",
    "-g",
    "ACCEPT",
    "DROP",
    "REJECT",
    "RETURN",
    "MARK",
    "--set-mark",
    "0x1/0xff",
    "LOG",
    "--log-prefix",
    '"',
    "-f",
    "-c",
    "1",
    "2",
    "limit",
    "--limit",
    "1/s",
    "mark",
    "--mark",
    "addrtype",
    "--dst-type",
    "LOCAL",
    "recent",
    "--set",
    "DNAT",
    "--to-destination",
    "10.0.0.1:80",
    "TTL",
    "--ttl-set",
    "owner",
    "--uid-owner",
    "0",
    "comment",
    "--comment",
    "time",
    "string",
    "u32",
    "-4",
    "-6",
    "\\",
    "-t",
    "-N",
]
LINES = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)
TEXTS = st.lists(
    st.one_of(
        LINES,
        st.sampled_from(
            ["*filter", "*nat", "*raw", ":INPUT DROP [0:0]", ":U - [0:0]", "COMMIT", "create s hash:ip", "add s 1"]
        ),
        st.text(max_size=30),
    ),
    max_size=25,
).map("\n".join)


@settings(derandomize=True)
@given(TEXTS)
def test_any_text_is_answered(text):
    read = read_rule_file(text)
    found = Explainer(read).explain(PACKET)
    assert found.possible
    assert (found.verdict is TraceVerdict.UNKNOWN) or found.possible == (found.verdict,)


@settings(derandomize=True)
@given(TEXTS)
def test_any_text_is_shown_and_checked(text):
    standing = of_files([("text", text)])
    found = lint(standing, needs_of(None), subject="text")
    assert lint_lines.lines(found, 80, verbose=True)
    assert show_lines.lines(laid_out(standing, subject="text"), 80)


@settings(derandomize=True)
@given(st.lists(LINES, max_size=12))
def test_a_rule_that_is_not_understood_never_decides(rules):
    text = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:U - [0:0]\n"
    read = read_rule_file(text + "".join(f"-A INPUT {rule}\n" for rule in rules) + "COMMIT\n")
    found = Explainer(read).explain(PACKET)
    bad = {int(problem.split(":")[0].removeprefix("line ")) - 5 for problem in read.problems}
    if found.rule is not None:
        assert found.rule.number not in bad
