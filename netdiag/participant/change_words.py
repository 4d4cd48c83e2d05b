"""The words of which a change of the packet filters may be made, and how each tool says whether a change is in place.

`is_allowed` is a grammar for what the planner proposes: one accept, for an address, that bears a mark of netdiag's; and
what takes it back. It is matched against a command word by word, so that no word can hold what a tool would read as more
than one.
"""

import re
from typing import Dict, List, Optional

HANDLE = "HANDLE"
"""Stands for a handle that only the kernel knows; it is looked up by the rule's comment."""

_A = r"(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f.]*:[0-9A-Fa-f.:]+)"
"""An address. There are no prefixes: a rule is for one peer."""
_N = r"\d{1,5}"
_PROTOCOL = r"(?!(?:all|0+)\b)[a-z0-9][a-z0-9-]*"
_CHAIN = r"[^\s!-]\S*"
_MARK = r"netdiag-[\w.:-]+"
_NAME = r"[A-Za-z_.][\w/.-]*"
"""What nft takes for the name of a table or chain without quoting it (src/scanner.l)."""
_WHERE = r"(?:ip6?|inet|bridge|arp|netdev) {0} {0}".format(_NAME)

_FROM_TO = r"(?:-s {0}(?: -d {0})?|-d {0})".format(_A)
_PORTS = r"(?: --icmp(?:v6)?-type {0})?(?: --sport {0})?(?: --dport {0})?".format(_N)
_TRACKED = r"-m conntrack --ctorigsrc {0} --ctorigdst {0}(?: --ctorigdstport {1})?".format(_A, _N)
_IPTABLES = (
    r"(?:-t (?:raw|mangle|nat|filter|security) )?(?:-A {chain}|-I {chain} {n}|-D {chain})"
    r" (?:{ends} -p {protocol}{ports}|-p {protocol} {tracked}) -m comment --comment {mark} -j ACCEPT"
).format(chain=_CHAIN, n=_N, ends=_FROM_TO, protocol=_PROTOCOL, ports=_PORTS, tracked=_TRACKED, mark=_MARK)

_NFT_ENDS = r"(?:{2} saddr {1}{0}(?: {2} daddr {1}{0})?|{2} daddr {1}{0})"
_NFT_ARP = _NFT_ENDS.format(_A, "ip ", "arp")
_NFT_REST = r"(?:icmp(?:v6)? type {0}|meta l4proto {1}|{1} sport {0}(?: {1} dport {0})?|{1} dport {0})"
_NFT_ADD = r'(?:add rule {where}|insert rule {where} handle \d+) (?:{arp}|{ip} {rest}) accept comment "{mark}"'.format(
    where=_WHERE, arp=_NFT_ARP, ip=_NFT_ENDS.format(_A, "", "ip6?"), rest=_NFT_REST.format(_N, _PROTOCOL), mark=_MARK
)
_NFT_DELETE = r"delete rule {} handle {}".format(_WHERE, HANDLE)

_RICH_ENDS = r'(?: source address="{0}"(?: destination address="{0}")?| destination address="{0}")'.format(_A)
_RICH_REST = (
    r'(?: icmp-type name="[a-z-]+"| (?:source-)?port port="{0}" protocol="[a-z0-9]+"| protocol value="[a-z0-9-]+")'
).format(_N)
_RICH = r'rule(?: priority="-?{0}")? family="ipv[46]"{1}{2} accept'.format(_N, _RICH_ENDS, _RICH_REST)
_ZONE = r"(?:--permanent )?--(?:zone|policy)=\S+"

_UFW_ENDS = r"(?:from {0}(?: to (?:{0}|any))?|(?:from any )?to {0})".format(_A)
_UFW = (
    r"(?:route )?(?:(?:insert 1|prepend|delete) )?allow (?:out )?"
    r"(?:proto {protocol} {ends}|{ends} port {n} proto {protocol}) comment {mark}"
).format(protocol=_PROTOCOL, ends=_UFW_ENDS, n=_N, mark=_MARK)

_BETWEEN = "\n"
"""Stands between two words where they are matched; no word that is taken has it."""


def _words(pattern: str) -> str:
    return pattern.replace(" ", _BETWEEN)


_GRAMMAR = tuple(
    (re.compile(tool), re.compile(words, re.ASCII))
    for tool, words in (
        (r"ip6?tables(?:-nft|-legacy)?", _words(_IPTABLES)),
        (r"nft", _words(_NFT_ADD)),
        (r"nft", _words(_NFT_DELETE)),
        # A rich rule is one word with blanks of its own.
        (r"firewall-cmd", _words(_ZONE + " --(?:add|remove)-rich-rule=") + _RICH),
        (r"ufw", _words(_UFW)),
        (r"fail2ban-client", _words(r"set {} (?:un)?banip {}".format(_CHAIN, _A))),
    )
)
_NEVER = frozenset(("flush", "policy", "reload", "reset", "restart"))
"""No name that is spelt like one of these is taken either: some tool may read it as the order."""


def tool_words(argv: List[str]) -> List[str]:
    """The tool and its arguments, without the nsenter before them."""
    if len(argv) > 3 and argv[0] == "nsenter" and re.match(r"--net=/\S+\Z", argv[1]) and argv[2] == "--":
        return argv[3:]
    return argv


def is_allowed(argv: List[str], comment: str = "") -> bool:
    """Whether a command is one that adds one accept for an address, or takes that back.

    ``comment`` is by what a rule's handle is found, for a command that needs one.
    """
    words = tool_words(argv)
    if not all(word.isprintable() and word not in _NEVER for word in argv) or len(words) < 2:
        return False
    if (HANDLE in words) is not bool(re.match(_MARK + r"\Z", comment, re.ASCII)):
        return False
    rest = _BETWEEN.join(words[1:])
    return any(tool.fullmatch(words[0]) and grammar.fullmatch(rest) for tool, grammar in _GRAMMAR)


def question(undo: List[str]) -> List[str]:
    """What asks a tool whether there is something that ``undo`` would take back."""
    words = tool_words(undo)
    prefix, tool = undo[: len(undo) - len(words)], words[0]
    if tool == "nft":
        return prefix + ["nft", "-a", "list", "chain"] + words[3:6]
    if tool == "firewall-cmd":
        return prefix + [word.replace("--remove-rich-rule=", "--query-rich-rule=", 1) for word in words]
    if tool == "ufw":
        return prefix + ["ufw", "show", "added"]
    if tool == "fail2ban-client":
        return prefix + ["fail2ban-client", "status", words[2]]
    at = words.index("-D")
    return prefix + words[:at] + ["-C"] + words[at + 1 :]


def answer(undo: List[str], comment: str, code: int, output: str, ours: bool = True) -> Optional[bool]:
    """Whether there is something to take back, from what the question came to; None where the tool does not tell.

    Without ``ours``: whether anything of the same kind is there already, which adding would change or not add.
    """
    words = tool_words(undo)
    tool = words[0]
    if tool == "nft":
        if code != 0:
            return False if "No such file or directory" in output else None
        return handle_in(output, comment) is not None
    if tool == "ufw":
        return _is_ufws(words, output, ours) if code == 0 else None
    if tool == "fail2ban-client":
        banned = re.search(r"Banned IP list:(.*)", output)
        return None if code != 0 or banned is None else words[-1] not in banned.group(1).split()
    # iptables -C, and firewall-cmd --query-rich-rule.
    return {0: True, 1: False}.get(code)


def handle_in(listing: str, comment: str) -> Optional[str]:
    """The handle of the rule with a comment in a chain that nft lists; None where there is none."""
    found = re.search(r' comment "{}" # handle (\d+)$'.format(re.escape(comment)), listing, re.MULTILINE)
    return found.group(1) if found else None


def _is_ufws(words: List[str], added: str, ours: bool) -> bool:
    """Whether ufw has a rule: the one with our comment, or any for the same packets, whatever it does with them."""
    wanted = _ufws_packets(words)
    for line in added.splitlines():
        said = line.replace("'", "").split()
        if said[:1] == ["ufw"] and (said[-1] == words[-1] if ours else _ufws_packets(said) == wanted):
            return True
    return False


def _ufws_packets(words: List[str]) -> Dict[str, str]:
    """Which packets a rule of ufw's is for: what ``ufw show added`` says in another order is the same."""
    found = {}  # type: Dict[str, str]
    rest = words[: words.index("comment")] if "comment" in words else words
    side = "from"
    for word, value in zip(rest, rest[1:] + [""]):
        if word in ("from", "to"):
            side = word
        if word in ("route", "out"):
            found[word] = ""
        elif word in ("from", "to", "proto", "on") and value != "any":
            found[word] = value
        elif word in ("port", "app") and value != "any":
            found[side + " port"] = value
    return found
