"""One row of the acceptance matrix: a fault, the packet that it hits, the rule that must be named, and who gets through.

A row is judged in one way everywhere. `Judge.naming`: the trace names exactly that rule, and the peer is refused.
`Judge.healing`: ``allow`` proposes one rule, with it the peer gets through, ``undo`` gives back the exact rules, and
Docker's own chains stay as they are.
"""

import json
import re
import shlex
import sys
from itertools import pairwise
from typing import NamedTuple

from netdiag.lab.faults import parse_words, registry
from netdiag.lab.process import until

PORTS = (2377, 7946, 8443, 9000)
"""Where every host of the matrix answers, by TCP and by UDP."""

RESPONDER = """
import selectors, socket, sys
chosen = selectors.DefaultSelector()
for port in map(int, sys.argv[1:]):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        one = socket.socket(socket.AF_INET6, kind)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("::", port))
        if kind == socket.SOCK_STREAM: one.listen(16)
        chosen.register(one, selectors.EVENT_READ, kind)
print("ready", flush=True)
while True:
    for key, _ in chosen.select():
        if key.data == socket.SOCK_STREAM:
            key.fileobj.accept()[0].close()
        else:
            data, peer = key.fileobj.recvfrom(100)
            try: key.fileobj.sendto(data, peer)
            except OSError: pass
"""

REACH = """
import socket, sys
kind, source, address, port = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
try:
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as one:
        one.settimeout(float(sys.argv[5]))
        if source: one.bind((source, 0))
        one.connect((address, port))
        if kind == "udp":
            one.send(b"through?")
            one.recv(100)
    print("through")
except OSError as error:
    print(error.strerror or "timed out")
"""

PACKET_WORDS = {
    "path": "--path",
    "in_device": "--in",
    "out_device": "--out",
    "source": "--src",
    "destination": "--dst",
    "protocol": "--proto",
    "source_port": "--sport",
    "destination_port": "--dport",
    "icmp_type": "--icmp-type",
    "tcp_flags": "--tcp-flags",
    "ttl": "--ttl",
    "length": "--length",
    "mac": "--mac",
}
"""What a traced packet is called in an answer, and by the commands that take one."""

MS = 5.0
"""The longest that sending to the rule's name may take; a median's bound, as other work runs on the machine."""

REFUSED_S = 0.4
"""How long a silent drop is waited for: the hosts are a bridge apart, and answer in less than a millisecond."""


class Rule(NamedTuple):
    """What the answer must say of the deciding rule; ``text`` is a part of its text, ``number`` None for a policy."""

    backend: str
    family: str
    table: str
    chain: str
    number: int | None
    text: str
    owner: str = "operator"
    namespace: str = "host"
    belongs_to: str = ""
    call_site: str = ""


class Row(NamedTuple):
    """One row.

    Attributes:
        name: What fails, in a few words.
        state: What is done to the host: lab faults (``drop …``) and commands (``iptables -A …``), in this order.
        packet: The words of ``netdiag firewall trace`` for the packet.
        rule: What decides.
        verdict: What the answer says.
        reach: Who tries the same for real: ``peer`` the other host, ``self`` the host itself, or a command, of the other
            host or, after an ``@``, of the host; empty where nobody can.
        passes: How many packets pass before the rule decides, as with a limit.
        decoy: Another packet's words, which this state lets through.
        lifted: The program whose rule it is can be told to take that one rule away, and nothing is added.
        unexplained: Why the model, which sees the rules alone, does not know; empty where it must say the same.
    """

    name: str
    state: tuple[str, ...]
    packet: str
    rule: Rule
    verdict: str = "drop"
    reach: str = "peer"
    passes: int = 0
    decoy: str = ""
    lifted: bool = False
    unexplained: str = ""


def ids(rows):
    return [re.sub(r"[^a-z0-9]+", "-", row.name.lower()) for row in rows]


COUNTED = re.compile(r"\[\d+:\d+\]")
EVERYTHING = (
    "nft -s list ruleset; for f in iptables ip6tables; do $f-save; $f-legacy-save; done; ipset save; "
    "cat /etc/ufw/user.rules /etc/ufw/user6.rules /etc/firewalld/zones/* /etc/firewalld/direct.xml; true"
)
# Those that iptables-nft makes when it first looks at a table; they filter nothing.
EMPTY = re.compile(r"(table ip6? \w+ \{\s*(chain [A-Z]+ \{\s*type \w+ hook .*; policy accept;\s*\}\s*)*\}\s*)")
EMPTY_SAVED = re.compile(r"\*\w+\n(:[A-Z]+ ACCEPT \n)*COMMIT\n")
OF_DOCKER = re.compile(r"^(?:-A |:)DOCKER(?!-USER)|^(?!-A DOCKER-USER).* -j DOCKER")


def rules(host, within=()):
    """All rules of a namespace in every tool's words, and the saved ones of firewalld and ufw; without counters."""
    text = host.exec([*within, "sh", "-c", f"({EVERYTHING}) 2>/dev/null"]).stdout
    text = COUNTED.sub("", "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#")))
    return EMPTY.sub("", EMPTY_SAVED.sub("", text)).splitlines()


def dockers(host):
    """The engine's own chains and the jumps to them, in their order."""
    lines = host.exec(["sh", "-c", "(iptables-save; ip6tables-save) 2>/dev/null"]).stdout.splitlines()
    return [COUNTED.sub("", line) for line in lines if OF_DOCKER.search(line)]


def answering(host, ports=PORTS):
    """A program on the host that answers on these ports; it runs and listens."""
    process = host.popen([sys.executable, "-c", RESPONDER, *map(str, ports)])
    assert process.stdout.readline() == "ready\n"
    return process


class Judge:
    """Judges rows on one host of a lab, with another host as the peer.

    Attributes:
        times_ms: From sending to the rule's name, for each row that was named.
        fill: What stands in braces in a row.
        inside: The words that run a command in each namespace that a row's packet may name.
    """

    def __init__(self, lab, host, peer):
        self.lab, self.host, self.peer = lab, host, peer
        self.times_ms = []
        self.fill = {}
        self.inside = {}

    def inject(self, line):
        """Do one line of a row's state."""
        fault, *words = shlex.split(line.format(**self.fill))
        if fault in registry():
            self.lab.break_(fault, host=self.host.name, **parse_words(words))
        else:
            self.host.exec([fault, *words])

    def ask(self, verb, words, *more):
        """The answer of ``netdiag firewall VERB`` as JSON, and its exit code."""
        argv = ["netdiag", "firewall", verb, *shlex.split(words.format(**self.fill)), *more, "--output", "json"]
        result = self.host.exec(argv, check=False)
        assert "Traceback" not in result.stderr, result.stderr
        assert result.stdout, f"{shlex.join(argv)}: {result.stderr}"
        return json.loads(result.stdout), result.returncode

    def trace(self, words, verdict):
        found, code = self.ask("trace", words)
        assert found["verdict"] == verdict, json.dumps(found, indent=1)
        assert code == {"accept": 0, "drop": 1, "reject": 1}[verdict]
        assert found["confidence"] == "proven"
        return found

    def gets_through(self, row, wait_s):
        """What the real attempt came to; ``through`` if it did."""
        if row.reach not in {"peer", "self"}:
            sender = self.host if row.reach.startswith("@") else self.peer
            argv = shlex.split(row.reach.lstrip("@").format(**self.fill))
            return "through" if sender.exec(argv, check=False).returncode == 0 else "no answer"
        words = shlex.split(row.packet.format(**self.fill))
        said = dict(zip(words[::2], words[1::2], strict=True))
        sender = self.host if row.reach == "self" else self.peer
        address = said.get("--dst", self.host.address)
        kind = said.get("--proto", "tcp")
        if kind.startswith("icmp"):
            argv = ["ping", "-c", "1", "-W", "1", *(["-I", said["--src"]] if "--src" in said else []), address]
            return "through" if sender.exec(argv, check=False).returncode == 0 else "no answer"
        argv = [sys.executable, "-c", REACH, kind, said.get("--src", ""), address, said["--dport"], str(wait_s)]
        return sender.exec(argv).stdout.strip()

    def all_rules(self, row):
        """Those of the host and, if it is another one, of the namespace that the row is about."""
        words = shlex.split(row.packet)
        named = [word for option, word in pairwise(words) if option in {"--container", "--netns"}]
        return [*rules(self.host), *(line for name in named for line in rules(self.host, self.inside[name]))]

    def break_as(self, row):
        """Inject a row's state; the rules with it."""
        for line in row.state:
            self.inject(line)
        broken = self.all_rules(row)
        for _ in range(row.passes):
            self.trace(row.packet, "accept")
        return broken

    def naming(self, row):
        """The trace names the row's rule, nothing that looks alike, and leaves nothing; what to print of it."""
        broken = self.break_as(row)
        found = self.trace(row.packet, row.verdict)
        self.named(row.rule, found)
        self.explained(row.packet, found, row.unexplained)
        if row.decoy:
            self.explained(row.decoy, self.trace(row.decoy, "accept"), None)
        if row.reach:
            assert self.gets_through(row, REFUSED_S) != "through"
        assert self.all_rules(row) == broken, "the trace left something"
        self.times_ms.append(found["elapsed_ms"])
        decided = found["rule"] or found["policy"]
        place = f"{decided['namespace']} {decided['backend']} {decided['family']} {decided['table']} {decided['chain']}"
        return f"{row.name}: {place} {decided['number'] or 'policy'} ({decided['owner']}), {found['elapsed_ms']} ms"

    def explained(self, words, traced, unexplained):
        """The model says of the very packet what the kernel said, by the same rule; where it does not know, it says why.

        Of a packet that passes it may not know either (``unexplained`` is None), and is never wrong.
        """
        packet = traced["packet"]
        if packet["protocol"] == "arp":
            return  # the model is one of IP
        said = [f"{PACKET_WORDS[name]}={packet[name]}" for name in PACKET_WORDS if packet.get(name) not in (None, "")]
        named = [
            word for pair in pairwise(shlex.split(words)) if pair[0] in {"--container", "--netns"} for word in pair
        ]
        found, _ = self.ask("explain", shlex.join(named), *said)
        if unexplained or (unexplained is None and found["verdict"] == "unknown"):
            assert found["verdict"] == "unknown", json.dumps(found, indent=1)
            assert (unexplained or "") in found["reason"], found["reason"]
            return
        assert found["verdict"] == traced["verdict"], json.dumps(found, indent=1)
        for kind in ("rule", "policy") if traced["verdict"] != "accept" else ():
            mine, theirs = (
                answer[kind]
                and {name: answer[kind][name] for name in ("backend", "family", "table", "chain", "number")}
                for answer in (found, traced)
            )
            assert mine == theirs, json.dumps(found, indent=1)

    def healing(self, row):
        """One rule of ``allow`` heals, its undo gives back the rules as they were, and Docker's chains stay."""
        docker = dockers(self.host)
        broken = self.break_as(row)
        beside = dockers(self.host)
        proposed, code = self.ask("allow", row.packet)
        assert code == 1, proposed
        assert self.all_rules(row) == broken, "a proposal changed something"
        fix = proposed["fix"]
        assert fix is not None, proposed["reason"]
        (command,) = fix["commands"]
        assert not re.search(r" -F| flush|reload| -P |restart", command["text"]), command
        self.host.exec(["sh", "-ec", command["text"]])
        healed = self.all_rules(row)
        gone, added = difference(broken, healed), difference(healed, broken)
        if row.lifted:
            assert not added, added
            assert [line for line in gone if line.startswith("-A")] == [proposed["before"]["rule"]["text"]]
        else:
            assert added, "nothing was added"
            assert not gone, "a rule went or changed"
        assert dockers(self.host) == beside, "Docker's own chains changed"
        self.trace(row.packet, "accept")
        if row.reach:
            until(lambda: self.gets_through(row, 2.0) == "through", 5.0, "the real attempt")
        (undo,) = fix["undo"]
        self.host.exec(["sh", "-ec", undo["text"]])
        assert self.all_rules(row) == broken, "undo gives back something else"
        self.lab.heal_all()
        assert not difference(docker, dockers(self.host)), "Docker's own chains changed"

    def named(self, wanted, found):
        """The rule is exactly this one, and the other of rule and policy is null."""
        decided, other = (found["policy"], found["rule"]) if wanted.number is None else (found["rule"], found["policy"])
        assert other is None, other
        assert decided is not None, found["reason"]
        for field in ("backend", "namespace", "family", "table", "chain", "number", "owner"):
            value = getattr(wanted, field)
            value = value.format(**self.fill) if isinstance(value, str) else value
            assert decided[field] == value, (field, decided)
        for field in ("text", "belongs_to", "call_site"):
            assert getattr(wanted, field).format(**self.fill) in (decided[field] or ""), (field, decided)
        if wanted.number is None:
            assert decided["policy"].upper() == "DROP"
        else:
            assert found["path"][-1]["rule"]["number"] == wanted.number


def difference(these, those):
    """The lines of one that the other lacks."""
    there = set(those)
    return [line for line in these if line not in there]
