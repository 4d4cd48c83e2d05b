"""A rule set from anywhere held to the kernel: loaded into this network namespace, and random packets sent past it.

    python -m tests.lab.hold_to_kernel FILE... --tool legacy --packets 200 --seed 1

Run it as root in a namespace of its own. Devices, addresses and routes are made of those that the rules name, and the
packets of addresses, ports and protocols at their edges. What this kernel or iptables does not load is left out, and
counted. The rules that counted each packet must be those of the model's path; and the file as it is written must mean
to the model what iptables lists of it.
"""

import argparse
import ipaddress
import json
import random
import re
import sys
from pathlib import Path

from netdiag.firewall.explain import Explainer, read_rule_file
from netdiag.firewall.netfilter.iptables import told_family
from netdiag.firewall.netfilter.skb import Host
from netdiag.model.explain import PacketLine
from netdiag.model.trace import TracePath
from tests.lab.kernel_world import empty, guard, restore, run, say, send, tap
from tests.lab.model_differential import Differ
from tests.lab.random_rules import FLAGS, MAC

MOST_DEVICES, MOST_ROUTES, MOST_OURS = 8, 60, 6
_DEVICE = re.compile(
    r" (?:-i|-o|--in-interface|--out-interface) (?:! )?([A-Za-z0-9_.@-]{1,14}\+?)(?= |$)", re.MULTILINE
)
_ADDRESS = re.compile(
    r"(?<![\d.])\d+\.\d+\.\d+\.\d+(?:/\d+)?(?![\d.])|(?<![0-9a-fA-F:])[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F:]*(?:/\d+)?"
)
_PORT = re.compile(r"-(?:dport|sport|dports|sports|ports|to-ports|to-destination)s? (?:! )?(\S+)")
_OLD_NEGATION = re.compile(r"(?<= )(--?[a-z-]+) ! (?=\S)")
_PROTOCOL = re.compile(r" -p (?:! )?(\w+)")


class WildWorld:
    """Devices, addresses and routes that suit a rule set."""

    def __init__(self, text, family, chosen):
        self.family, self._chosen = family, chosen
        names = {name.rstrip("+") + "0" * name.endswith("+") for name in _DEVICE.findall(text)} - {"lo"}
        self.names = sorted(name for name in names if len(name) < 15)[:MOST_DEVICES]
        self.names += [name for name in ("eth0", "eth1") if name not in self.names][: max(0, 2 - len(self.names))]
        self.ports = sorted({0, 1, 22, 1023, 1024, 40000, 65535} | _edges(text))
        self.protocols = sorted({each for each in _PROTOCOL.findall(text) if each in ("esp", "ah", "gre")})
        networks = _networks(text, family)
        self.links = [self._link(number) for number in range(len(self.names))]
        hosts = [each for each in networks if each.num_addresses == 1]
        chosen.shuffle(hosts)
        self.ours = [str(each[1]) for each in self.links] + [str(each.network_address) for each in hosts[:MOST_OURS]]
        mine = {ipaddress.ip_address(each) for each in self.ours}
        chosen.shuffle(networks)
        self.routes = [
            (each, chosen.randrange(len(self.names)))
            for each in networks[:MOST_ROUTES]
            if each.prefixlen and not any(own in each and each.num_addresses == 1 for own in mine)
        ]
        edges = {
            address
            for each in networks
            for address in (each.network_address, each.broadcast_address, each[each.num_addresses > 1])
        }
        edges |= {each[1] + 8 for each in self.links}
        everywhere = "203.0.113.77" if family == 4 else "2001:db8:ffff::77"
        self.others = [str(each) for each in sorted(edges) if self._is_other(each, mine)] + [everywhere]
        self.fds = [tap(name) for name in self.names]
        self._configure()
        self.host = Host(
            addresses=frozenset((int(ipaddress.ip_address(each)), family) for each in (*self.ours, _lo(family))),
            broadcasts=frozenset(int(net.broadcast_address) for net, _, _ in self.links)
            if family == 4
            else frozenset(),
            bridges=frozenset(),
            first_addresses={name: int(link[1]) for name, link in zip(self.names, self.links, strict=True)}
            if family == 4
            else {},
        )

    def _link(self, number):
        """The network of a device, this host's address there and the router's."""
        text = f"10.{200 + number}.0.0/24" if self.family == 4 else f"fd00:{200 + number}::/64"
        network = ipaddress.ip_network(text)
        return network, network.network_address + 1, network.network_address + 2

    def _is_other(self, address, mine):
        if address in mine or address.is_multicast or address.is_loopback or address.is_unspecified:
            return False
        if self.family == 6:
            return not address.is_link_local
        # Of 0.0.0.0/8, 240.0.0.0/4 and broadcasts the kernel takes nothing in.
        reserved = int(address) >> 24 in (0, 127) or int(address) >> 28 == 15
        return not reserved and not any(
            address in (net.broadcast_address, net.network_address) for net, *_ in self.links
        )

    def _configure(self):
        commands = [
            "ip link set lo up",
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
            "sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0",
        ]
        for number, (name, (network, own, router)) in enumerate(zip(self.names, self.links, strict=True)):
            commands += [
                f"ip link set {name} addrgenmode none",
                f"ip link set {name} address {_mac(number)} up",
                f"ip addr add {own}/{network.prefixlen} dev {name}" + (" brd +" if self.family == 4 else " nodad"),
                f"ip neigh replace {router} lladdr {MAC} dev {name}",
                f"ip neigh replace {own + 8} lladdr {MAC} dev {name}",
            ]
        commands += [f"sysctl -qw net.ipv4.conf.{name.replace('.', '/')}.rp_filter=0" for name in self.names]
        v = "-6 " if self.family == 6 else ""
        commands += [f"ip {v}addr add {each} dev lo" for each in self.ours[len(self.links) :]]
        commands += [
            f"ip {v}route replace {network} via {self.links[at][2]} dev {self.names[at]}" for network, at in self.routes
        ]
        commands.append(f"ip {v}route replace default via {self.links[0][2]} dev {self.names[0]}")
        for command in commands:
            said = run(*command.split())
            if said.returncode:
                say(command, said.stderr)
        guard(self.names)

    def _leaves_by(self, address):
        """The device by which a packet leaves; the longest prefix wins, of two routes the one that replaced the other."""
        there = ipaddress.ip_address(address)
        found = [(net.prefixlen, number, at) for number, (net, at) in enumerate(self.routes) if there in net]
        found += [(net.prefixlen, 1 << 20, at) for at, (net, *_) in enumerate(self.links) if there in net]
        return self.names[max(found)[2]] if found else self.names[0]

    def packet(self):
        chosen = self._chosen
        icmp = "icmp" if self.family == 4 else "icmpv6"
        proto = chosen.choice(["tcp", "tcp", "tcp", "udp", "udp", icmp, *self.protocols])
        said = {"path": chosen.choice(list(TracePath)), "proto": proto, "ttl": chosen.choice([64, 64, 2, 255])}
        other = chosen.choice(self.others)
        if said["path"] is TracePath.OUT:
            device = self._leaves_by(other)
            said |= {"source": self.ours[self.names.index(device)], "destination": other, "out_device": device}
        else:
            at = chosen.randrange(len(self.names))
            here = [*self.ours, self.ours[at], self.ours[at]]
            if self.family == 4:
                here += [str(self.links[at][0].broadcast_address), "224.0.0.1"]
            to = chosen.choice(here) if said["path"] is TracePath.IN else chosen.choice(self.others)
            said |= {"in_device": self.names[at], "source": other, "destination": to, "mac": MAC}
            if said["path"] is TracePath.FORWARD:
                said["out_device"] = self._leaves_by(to)
        if proto in ("tcp", "udp"):
            said |= {"sport": chosen.choice(self.ports) or 1, "dport": chosen.choice(self.ports) or 1}
        if proto == "tcp":
            said["tcp_flags"] = chosen.choice(["syn", "syn", "syn", *FLAGS])
        if proto == icmp:
            said["icmp_type"] = chosen.choice([8, 8, 0, 3, 13, 11] if self.family == 4 else [128, 128, 129, 1, 2])
            said["icmp_code"] = 0
        said["length"] = chosen.choice([60, 100] if self.family == 4 else [80, 100])
        return PacketLine(**said)

    def send(self, packet):
        at = self.names.index(packet.in_device) if packet.in_device else 0
        send(packet, self.family, self.fds[at], _mac(at))

    def clean(self):
        run("nft", "delete", "table", "inet", "guard")
        for each in self.ours[len(self.links) :]:
            run("ip", "addr", "delete", f"{each}/{32 if self.family == 4 else 128}", "dev", "lo")
        for name in self.names:
            run("ip", "link", "delete", name)


def _lo(family):
    return "127.0.0.1" if family == 4 else "::1"


def _mac(number):
    return f"02:00:00:01:{number:02x}:01"


def _edges(text):
    """The ports at the edges of those that a text names."""
    found = set()
    for word in _PORT.findall(text):
        for port in re.findall(r"\d+", word.rpartition("]")[2] if "]" in word else word.rpartition(".")[2]):
            found |= {int(port) - 1, int(port), int(port) + 1}
    return {port for port in found if 0 < port < 65536}


def _networks(text, family):
    found = set()
    for word in _ADDRESS.findall(text):
        try:
            network = ipaddress.ip_network(word, strict=False)
        except ValueError:
            continue
        first = network.network_address
        if network.version == family and not (first.is_multicast or first.is_loopback or first.is_unspecified):
            found.add(network)
    return sorted(found)


def hold(text, tool, packets, seed=0, family=None):
    """Load a rule set and send packets past it; gives what was counted. Raises AssertionError for a wrong answer."""
    chosen = random.Random(seed)
    family = family or told_family(text) or 4
    written = read_rule_file(text)
    rules = "\n".join(line for line in text.split("\n") if not line.startswith(("create ", "add ")))
    sets = [line for line in text.split("\n") if line.startswith(("create ", "add "))]
    world = WildWorld(text, family, chosen)
    differ = Differ(tool, family, world)
    try:
        said = run("ipset", "restore", "-!", text="\n".join([*sets, ""])).stderr if sets else ""
        assert not said, said
        rules = _loaded(rules, differ)
        asked = [world.packet() for _ in range(packets)]
        if not differ.counts["refused rules"]:
            differ.counts["as written"] = _means_the_same(written, differ, asked)
        differ.packets(rules, [], asked)
    finally:
        empty(tool, family)
        run("ipset", "destroy")
        world.clean()
    return differ


def _loaded(text, differ):
    """Load what of the rules this iptables and this kernel take; gives it, and counts what they refuse."""
    text = _OLD_NEGATION.sub(r"! \1 ", text)
    if not re.search(r"^\*", text, re.MULTILINE):
        text = f"*filter\n{text}\nCOMMIT\n"
    for _ in range(12):
        said = restore(differ.tool, differ.family, text)
        if not said:
            return text
        rows = text.split("\n")
        named = re.search(r"(?:match|target|Chain|network) [`']([\w.]+)'", said)
        at = re.search(r"\bline:? (\d+)", said)
        out = {number for number, row in enumerate(rows) if named is not None and f" {named[1]}" in row}
        out = out or ({int(at[1]) - 1} if at is not None else set())
        assert any("-A " in rows[number] or "-D " in rows[number] for number in out), said
        differ.counts["refused rules"] += len(out)
        text = "\n".join(row for number, row in enumerate(rows) if number not in out)
    raise AssertionError(said)


def _means_the_same(written, differ, packets):
    """How many packets the file as it is written answers as what iptables lists of it; all of them, or it fails."""
    listed = run(f"ip{'6' if differ.family == 6 else ''}tables-{differ.tool}-save").stdout
    again = read_rule_file(listed + run("ipset", "save").stdout)
    mine, theirs = (Explainer(each, differ.world.host) for each in (written, again))
    for packet in packets:
        one, other = (_essence(each.explain(packet)) for each in (mine, theirs))
        assert one == other, f"{packet}\nas written: {one}\nas listed: {other}"
    return len(packets)


def _essence(found):
    rule = found.rule
    return found.verdict, found.possible, rule and (rule.table, rule.chain, rule.number)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--tool", choices=["nft", "legacy"], default="nft")
    parser.add_argument("--packets", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    failed, sent = {}, 0
    for file in options.files:
        try:
            differ = hold(file.read_text(), options.tool, options.packets, options.seed)
            counts, reasons = differ.counts, dict(differ.reasons.most_common(6))
            sent += counts["packets"]
        except AssertionError as error:
            counts, reasons = {}, {}
            failed[file.name] = str(error)
        say(file.name, json.dumps(counts), json.dumps(reasons, indent=1) if reasons else "")
    sys.stdout.write(json.dumps({"failed": failed, "packets": sent}, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
