"""The commands that make running and saved rules agree: save what runs, or bring back what is saved.

No command flushes, and where programs have rules of their own only the one rule is written into the file: a whole save
would write theirs as well, and they would come back beside what the programs write at their start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from netdiag.firewall.owner import owner_of
from netdiag.firewall.save_text import BUILT_IN, read_save, split_words
from netdiag.firewall.saved_text import canonical
from netdiag.model.facts import Backend, Identity, RuleSet
from netdiag.model.firewall import FirewallRule, Owner
from netdiag.shell import shell_text

DEBIAN = frozenset({"debian", "ubuntu", "raspbian", "linuxmint"})
RED_HAT = frozenset({"rhel", "centos", "fedora", "rocky", "almalinux", "ol", "amzn"})
"""Distributions by their ID in os-release, with what keeps iptables rules there."""
MECHANISMS = dict.fromkeys(DEBIAN, "netfilter-persistent") | dict.fromkeys(RED_HAT, "iptables.service")
"""What keeps iptables rules on a distribution."""
FILES = {
    ("netfilter-persistent", 4): "/etc/iptables/rules.v4",
    ("netfilter-persistent", 6): "/etc/iptables/rules.v6",
    ("iptables.service", 4): "/etc/sysconfig/iptables",
    ("iptables.service", 6): "/etc/sysconfig/ip6tables",
}
"""What the mechanisms that load whole tables read, by family."""
_DO_NOT_SAVE = [f"iptables-persistent iptables-persistent/autosave_v{family} boolean false" for family in (4, 6)]
"""What answers the package's question whether it is to save all that runs."""
_WAYS = {way: way for way in ("input", "output", "forward")}
_SIMPLE = re.compile(
    r"^(?:-s (?P<source>\S+) )?-p (?P<proto>tcp|udp) -m (?P=proto) --dport (?P<port>\d+) -j (?P<target>ACCEPT|DROP|REJECT)\b"
)


def programs_own(rule_sets: Iterable[RuleSet]) -> bool:
    """Whether programs (Docker, kube-proxy, fail2ban, …) have rules among those of iptables that run."""
    return any(
        owner_of(chain.name, rule.text) not in (Owner.OPERATOR, Owner.NETDIAG)
        for rules in rule_sets
        if rules.backend in (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY)
        for chains in read_save(rules.text).tables.values()
        for chain in chains.values()
        for rule in chain.rules
    )


def bring_back(rule: FirewallRule, plain: Backend | None) -> tuple[str, ...]:
    """Add a rule that is saved and does not run, at the place that it has in the file."""
    if rule.backend is Backend.NFT_NATIVE:
        return (shell_text(["nft", _nft_line(rule)]),)
    number = [str(rule.number)] if rule.number is not None else []
    return (shell_text([*_tool(rule, plain), "-I", rule.chain, *number, *_body(rule)]),)


def set_policy(rule: FirewallRule, policy: str, plain: Backend | None) -> tuple[str, ...]:
    """Set a chain's policy."""
    if rule.backend is Backend.NFT_NATIVE:
        return (shell_text(["nft", f"chain {rule.family} {rule.table} {rule.chain} {{ policy {policy}; }}"]),)
    return (shell_text([*_tool(rule, plain), "-P", rule.chain, policy]),)


def save_into(rule: FirewallRule, path: str, raw: str, anchor: str) -> tuple[str, ...]:
    """Write one rule of iptables into a rules file whose text is ``raw``.

    ``anchor`` is the line in front of which it belongs; empty for the end of its chain.
    """
    table, chain = rule.table, rule.chain
    start = f"^{_sed_pattern(f'*{table}')}"
    commands: list[str] = []
    if not re.search(rf"^\*{re.escape(table)}\s*$", raw, re.MULTILINE):
        commands.append(f"{shell_text(['grep', '-qs', start, path])} || {_append(path, f'*{table}', 'COMMIT')}")
    if chain not in BUILT_IN and not re.search(rf"^:{re.escape(chain)}\s", raw, re.MULTILINE):
        declare = shell_text(["sed", "-i", f"/{start}/a {_sed_text(f':{chain} - [0:0]')}", path])
        commands.append(f"{shell_text(['grep', '-q', f'^:{_sed_pattern(chain)} ', path])} || {declare}")
    place = f"^{_sed_pattern(anchor)}$" if anchor else "^COMMIT"
    commands.append(_insert(f"/{start}/,/^COMMIT/{{/{place}/i {_sed_text(rule.text)}", path))
    return tuple(commands)


def _insert(script: str, path: str) -> str:
    """A script of sed's that ends in a text: what closes its block comes with an option of its own."""
    return shell_text(["sed", "-i", "-e", script, "-e", "}", path])


def delete_line(line: str, path: str) -> tuple[str, ...]:
    """Take one rule out of a rules file."""
    return (shell_text(["sed", "-i", f"/^{_sed_pattern(line)}$/d", path]),)


def save_nft(rule: FirewallRule, path: str) -> tuple[str, ...]:
    """Write one rule of nft behind the tables of a file, at the place that it has now."""
    return (_append(path, _nft_line(rule)),)


def save_nft_table(family: str, table: str, path: str, *, enable: bool) -> tuple[str, ...]:
    """Write a whole table of nft behind what a file has."""
    save = f"{shell_text(['nft', '-s', 'list', 'table', family, table])} >> {shell_text([path])}"
    return (save, "systemctl enable nftables") if enable else (save,)


def save_element(family: str, table: str, name: str, member: str, path: str) -> tuple[str, ...]:
    """Write one member of a set of nft's behind the tables of a file."""
    return (_append(path, _element(family, table, name, member)),)


def add_element(family: str, table: str, name: str, member: str) -> tuple[str, ...]:
    """Put a member back into a set of nft's that runs."""
    return (shell_text(["nft", _element(family, table, name, member)]),)


def add_member(name: str, member: str) -> tuple[str, ...]:
    """Put a member back into an ipset that runs."""
    return (shell_text(["ipset", "add", name, member]),)


def save_sets(path: str) -> tuple[str, ...]:
    """Write all ipsets into a file."""
    return (f"ipset save > {shell_text([path])}",)


def load_file(path: str) -> tuple[str, ...]:
    """Load a file of nft without what it says of throwing everything away."""
    return (f"{shell_text(['sed', '/^ *flush ruleset/d', path])} | nft -f -",)


def save_ufw(rule: FirewallRule) -> tuple[str, ...]:
    """Give a rule of iptables to ufw: as a rule of its own words, else in its file; none where it has no chain for it.

    user.rules is not for hands: ufw writes it again from what it was told.
    """
    six = "6" if rule.family == "ip6" else ""
    way = _WAYS.get(rule.chain.removeprefix(f"ufw{six}-user-")) or _WAYS.get(rule.chain.lower(), "")
    if rule.table != "filter" or not way:
        return ()
    told = _as_ufw(rule) if way == "input" else ""
    if told:
        return (told,)
    text = re.sub(r"^-A \S+", lambda _: f"-A ufw{six}-before-{way}", rule.text)
    return (_insert(f"/^\\*filter/,/^COMMIT/{{/^COMMIT/i {_sed_text(text)}", f"/etc/ufw/before{six}.rules"),)


def _as_ufw(rule: FirewallRule) -> str:
    """The rule as a command of ufw; empty where its words do not say all of it."""
    found = _SIMPLE.match(canonical(split_words(rule.text)[2:], 6 if rule.family == "ip6" else 4))
    if not found:
        return ""
    verb = {"ACCEPT": "allow", "DROP": "deny", "REJECT": "reject"}[found["target"]]
    match = ["proto", found["proto"], "from", found["source"] or "any", "to", "any", "port", found["port"]]
    return shell_text(["ufw", verb, *match])


def save_direct(rule: FirewallRule) -> tuple[str, ...]:
    """Keep a rule of iptables in firewalld's permanent direct rules."""
    family = "ipv6" if rule.family == "ip6" else "ipv4"
    head = ["firewall-cmd", "--permanent", "--direct", "--add-rule", family, rule.table, rule.chain, "0"]
    return (shell_text([*head, *_body(rule)]),)


def install_keeper(identity: Identity | None, rule: FirewallRule, *, whole: bool) -> tuple[tuple[str, ...], str]:
    """What this distribution keeps iptables rules with: the commands that install it, and its file.

    ``whole``: all that runs may be saved; Debian's package would do that while it is installed.
    """
    family = 6 if rule.family == "ip6" else 4
    distribution = identity.distribution_id if identity is not None else ""
    if distribution in DEBIAN:
        answers = shell_text(["printf", "%s\\n", *_DO_NOT_SAVE]) + " | debconf-set-selections"
        install = "apt-get install iptables-persistent"
        return (install,) if whole else (answers, install), FILES["netfilter-persistent", family]
    if distribution in RED_HAT:
        enable = f"systemctl enable {'ip6tables' if family == 6 else 'iptables'}"
        return ("dnf install iptables-services", enable), FILES["iptables.service", family]
    return (), ""


def save_all(mechanism: str, family: str) -> tuple[str, ...]:
    """Save everything that runs; only right where no program has rules of its own."""
    if mechanism == "iptables.service":
        return (f"service {'ip6tables' if family == 'ip6' else 'iptables'} save",)
    return ("netfilter-persistent save",)


def _tool(rule: FirewallRule, plain: Backend | None) -> list[str]:
    tool = "ip6tables" if rule.family == "ip6" else "iptables"
    if rule.backend is not plain:
        tool += "-legacy" if rule.backend is Backend.IPTABLES_LEGACY else "-nft"
    return [tool, "-w", *([] if rule.table == "filter" else ["-t", rule.table])]


def _body(rule: FirewallRule) -> tuple[str, ...]:
    """What it matches and does, without the words that name its chain."""
    return split_words(rule.text)[2:]


def _nft_line(rule: FirewallRule) -> str:
    where = f"{rule.family} {rule.table} {rule.chain}"
    number = rule.number or 1
    return f"insert rule {where} {rule.text}" if number < 2 else f"add rule {where} index {number - 2} {rule.text}"


def _element(family: str, table: str, name: str, member: str) -> str:
    return f"add element {family} {table} {name} {{ {member} }}"


def _append(path: str, *lines: str) -> str:
    command = shell_text(["printf", "%s\\n", *lines])
    return f"{command} >> {shell_text([path])}"


def _sed_text(text: str) -> str:
    """A text for sed's commands i and a, which read escapes in it."""
    return text.replace("\\", "\\\\").replace("\n", "\\\n")


def _sed_pattern(text: str) -> str:
    """A basic regular expression, between slashes, that matches this text only."""
    return re.sub(r"([][\\/.*^$])", r"\\\1", text)
