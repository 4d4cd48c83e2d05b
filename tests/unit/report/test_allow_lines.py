"""What people read of an allow."""

import msgspec

from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule
from netdiag.model.fix import Allow, Command, Fix
from netdiag.model.level import Level
from netdiag.model.report import Confidence
from netdiag.model.trace import Trace, TracedPacket, TracePath, TraceVerdict
from netdiag.report.allow_lines import after_lines, kept_lines, proposal_lines, result_lines, same_place

PACKET = TracedPacket(
    path=TracePath.IN,
    in_device="eth0",
    source="192.0.2.21",
    destination="192.0.2.10",
    protocol="tcp",
    destination_port=2377,
)


def trace(text="-A INPUT -j DROP", number=2, verdict=TraceVerdict.DROP, reason=""):
    rule = FirewallRule(
        backend=Backend.IPTABLES_NFT, family="ip", table="filter", chain="INPUT", number=number, text=text
    )
    return Trace(
        verdict=verdict,
        rule=rule if text else None,
        policy=None,
        confidence=Confidence.PROVEN,
        path=(),
        level=Level.OWNED_TRACE,
        elapsed_ms=None,
        reason=reason,
        packet=PACKET,
    )


def command(text):
    return Command(argv=tuple(text.split()), text=text)


FIX = Fix(
    host="b",
    summary="",
    place="filter INPUT, before rule 2",
    covers="tcp from 192.0.2.21 to port 2377",
    commands=(command("one"), command("two")),
    undo=(command("undo one"), command("undo two")),
    persist=("save",),
    notes=("a note",),
)


def answer(before, **fields):
    return Allow(packet=PACKET, before=before, **{"fix": None, **fields})


def test_a_proposal():
    text = proposal_lines(answer(trace(), fix=FIX), 100)
    assert text[0] == "DROP: tcp from 192.0.2.21 to 192.0.2.10 port 2377, arriving on eth0"
    assert text[text.index("To let it through (filter INPUT, before rule 2):") :] == [
        "To let it through (filter INPUT, before rule 2):",
        "  one",
        "  two",
        "",
        "Undo:",
        "  undo two",
        "  undo one",
        "",
        "To keep it:",
        "  save",
        "",
        "It lets through: tcp from 192.0.2.21 to port 2377 (risk: low)",
        "  a note",
    ]


def test_a_doubt_is_said_with_its_reason_before_the_proposal():
    before = msgspec.structs.replace(
        trace(reason="other traffic moves its counter too"), confidence=Confidence.LIKELY, level="counters"
    )
    text = proposal_lines(answer(before, fix=FIX), 100)
    assert text[0] == "DROP (likely): tcp from 192.0.2.21 to 192.0.2.10 port 2377, arriving on eth0"
    assert "  other traffic moves its counter too" in text[: text.index("  one")]
    after = msgspec.structs.replace(before, verdict=TraceVerdict.ACCEPT)
    assert after_lines(before, after, 100)[0] == "with the rule: drop (likely) -> accept (likely)"
    done = answer(before, fix=FIX, applied=True, kept=True, after=after)
    assert result_lines(done, 100)[-1] == "Kept. The packet's verdict is now: accept (likely)."


EVIL = "it's\x1b[2J\r\u202e\nDROP: nothing\t"


def test_what_others_wrote_does_not_steer_the_terminal():
    before = trace(f"-A INPUT -m comment --comment {EVIL}", reason=EVIL)
    rule = msgspec.structs.replace(before.rule, chain=EVIL, belongs_to=EVIL, call_site=EVIL)
    packet = msgspec.structs.replace(PACKET, in_device=EVIL, namespace=f"container:{EVIL}")
    before = msgspec.structs.replace(before, rule=rule, packet=packet)
    fix = msgspec.structs.replace(
        FIX,
        place=EVIL,
        covers=EVIL,
        notes=(EVIL,),
        commands=(command(f"iptables '{EVIL}'"), command("iptables plain")),
        undo=(command(EVIL), command("undo plain")),
        persist=(EVIL,),
    )
    said = [
        *proposal_lines(answer(before, fix=fix), 100),
        *proposal_lines(answer(before, reason=EVIL), 100),
        *after_lines(before, before, 100),
        *result_lines(answer(before, fix=fix, reason=EVIL), 100),
        *result_lines(answer(before, fix=fix, reason=EVIL, applied=True, after=before), 100),
        *kept_lines(EVIL, [EVIL]),
    ]
    assert [line for line in said if not line.isprintable()] == []
    # A command that cannot be shown as it is would be another one when it is pasted.
    assert "  iptables plain" in said
    assert not any(line.strip().startswith("iptables '") for line in said)
    assert sum("no terminal shows" in line for line in said) == 3


def test_sentences_fit_and_commands_are_never_broken():
    long = command("iptables -I INPUT 2 " + "-m comment --comment word " * 6)
    fix = msgspec.structs.replace(FIX, commands=(long,), undo=(long,), notes=("why it is so. " * 20,))
    said = [
        *proposal_lines(answer(trace(), fix=fix), 80),
        *proposal_lines(answer(trace(), reason="because " * 30), 80),
        *result_lines(answer(trace(), fix=fix, reason="because " * 30), 80),
    ]
    assert f"  {long.text}" in said
    assert all(len(line) <= 80 for line in said if long.text not in line)


def test_no_proposal():
    assert proposal_lines(answer(trace(), reason="because"), 100)[-1] == "No rule is proposed: because"
    said = proposal_lines(answer(trace(verdict=TraceVerdict.ACCEPT)), 100)
    assert said[-1] == "It is let through already: nothing is to be done."


def test_what_decides_with_the_rule_in_place():
    before = trace()
    moved = trace(number=3)
    assert same_place(before, moved)
    assert not same_place(before, trace("-A INPUT -j REJECT", 3))
    assert not same_place(before, trace(verdict=TraceVerdict.ACCEPT))
    assert "of no use" in after_lines(before, moved, 100)[-1]
    other = after_lines(before, trace("-A INPUT -j REJECT", 3, TraceVerdict.REJECT), 100)
    assert other == [
        "with the rule: drop -> reject",
        "  now by iptables-nft ip filter INPUT rule 3: -A INPUT -j REJECT",
    ]
    lost = trace("", verdict=TraceVerdict.UNKNOWN, reason="it was lost")
    assert after_lines(before, lost, 100) == ["with the rule: drop -> unknown", "  it was lost"]


def test_what_became_of_it():
    before, after = trace(), trace(verdict=TraceVerdict.ACCEPT)
    assert result_lines(answer(before, fix=FIX, reason="no tool"), 100)[-1] == "Nothing is changed: no tool"
    done = answer(before, fix=FIX, applied=True, after=after)
    assert result_lines(done, 100)[-1] == "Taken back. With the rule the packet's verdict was: accept."
    kept = msgspec.structs.replace(done, kept=True, reason="not permanently")
    assert result_lines(kept, 100)[-2:] == ["Kept. The packet's verdict is now: accept.", "  not permanently"]
