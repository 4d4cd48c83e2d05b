"""A trace for people: what somebody else wrote cannot steer the terminal."""

import msgspec
import pytest

from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule
from netdiag.model.level import Level
from netdiag.model.report import Confidence
from netdiag.model.trace import Endpoints, Rewrite, Trace, TracedPacket, TracePath, TraceStep, TraceVerdict
from netdiag.report.trace_lines import lines, packet_line, rule_lines

EVIL = "\x1b[2J\x9b1A\r"
RULE = FirewallRule(
    backend=Backend.NFT_NATIVE,
    family="ip",
    table="t",
    chain=f"c{EVIL}",
    number=1,
    text=f'drop comment "{EVIL}"',
    namespace=f"container:{EVIL}",
    belongs_to=f"network {EVIL}",
    call_site=f"t x rule 1: jump {EVIL}",
)
PACKET = TracedPacket(
    path=TracePath.IN, namespace=RULE.namespace, source="192.0.2.1", destination="192.0.2.2", protocol="tcp"
)
ENDS = Endpoints(source="192.0.2.1", destination="192.0.2.2")
TRACE = Trace(
    verdict=TraceVerdict.DROP,
    rule=RULE,
    policy=None,
    confidence=Confidence.PROVEN,
    path=(TraceStep(hook="input", rule=RULE, verdict="drop"),),
    nat=(Rewrite(before=ENDS, after=msgspec.structs.replace(ENDS, destination="192.0.2.3"), rule=RULE),),
    level=Level.OWNED_TRACE,
    elapsed_ms=0.4,
    reason=f"because {EVIL}",
    packet=PACKET,
)


@pytest.mark.parametrize("said", [lines(TRACE, 60), lines(TRACE, 300), rule_lines(RULE), [packet_line(PACKET)]])
def test_no_line_holds_what_a_terminal_would_obey(said):
    assert all(line.isprintable() for line in said)
    assert "\\x1b[2J\\x9b1A\\r" in "\n".join(said)
