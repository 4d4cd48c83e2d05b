"""The match extensions of iptables that are modelled, and the options that each takes.

Sources: iptables/extensions/lib{xt,ipt,ip6t}_*.c.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from netdiag.firewall.netfilter import grammar
from netdiag.firewall.netfilter.grammar import Option
from netdiag.firewall.netfilter.rules import Match, NotUnderstood


class Extension(NamedTuple):
    """A match extension: its options, each with the number of its values, and what becomes of them."""

    options: Mapping[str, int]
    build: grammar.Build


def _each(count: int, names: str) -> dict[str, int]:
    """Options that all take so many values."""
    return dict.fromkeys(names.split(), count)


def _opaque(name: str, none: str = "", one: str = "") -> Extension:
    """A match that looks at what is not known of a packet: its options are read over."""
    reason = NotUnderstood(f"the match {name} is not modelled")

    def build(options: Sequence[Option], family: int) -> Sequence[Match]:  # noqa: ARG001
        return (reason,)

    return Extension({**_each(0, none), **_each(1, one)}, build)


_OPAQUE: Mapping[str, Extension] = {
    "string": _opaque("string", "--icase", "--from --to --algo --string --hex-string"),
    "u32": _opaque("u32", one="--u32"),
    "bpf": _opaque("bpf", one="--bytecode --object-pinned"),
    "time": _opaque(
        "time", "--contiguous --kerneltz --utc --localtz", "--datestart --datestop --timestart --timestop --monthdays"
        " --weekdays --days",
    ),
    "connlimit": _opaque("connlimit", "--connlimit-saddr --connlimit-daddr",
        "--connlimit-upto --connlimit-above --connlimit-mask"),
    "connbytes": _opaque("connbytes", one="--connbytes --connbytes-dir --connbytes-mode"),
    "connlabel": _opaque("connlabel", "--set", "--label"),
    "quota": _opaque("quota", one="--quota"),
    "quota2": _opaque("quota2", "--grow --no-change --packets", "--quota --name"),
    "geoip": _opaque("geoip", one="--source-country --src-cc --destination-country --dst-cc"),
    "socket": _opaque("socket", "--transparent --nowildcard --restore-skmark"),
    "cgroup": _opaque("cgroup", one="--cgroup --path"),
    "realm": _opaque("realm", one="--realm"),
    "cluster": _opaque("cluster", one="--cluster-total-nodes --cluster-local-node --cluster-local-nodemask"
        " --cluster-hash-seed"),
    "layer7": _opaque("layer7", one="--l7proto --l7dir --l7pkt"),
    "ipp2p": _opaque("ipp2p", "--ipp2p --ipp2p-data --edk --edk-data --dc --dc-data --kazaa --kazaa-data --gnu"
        " --gnu-data --bit --bit-data --apple --soul --winmx --ares --debug"),
    "devgroup": _opaque("devgroup", one="--src-group --dst-group"),
    "ipvs": _opaque("ipvs", "--ipvs", "--vproto --vaddr --vport --vdir --vmethod --vportctl"),
    "osf": _opaque("osf", one="--genre --ttl --log"),
    "ipv6header": _opaque("ipv6header", "--soft", "--header"),
    "nfacct": _opaque("nfacct", one="--nfacct-name"),
    "psd": _opaque("psd", one="--psd-weight-threshold --psd-delay-threshold --psd-lo-ports-weight --psd-hi-ports-weight"),
    "random": _opaque("random", one="--average"),
    "nth": _opaque("nth", one="--every --counter --start --packet"),
    "condition": _opaque("condition", one="--condition"),
    "account": _opaque("account", "--ashort", "--aaddr --aname"),
    "iplimit": _opaque("iplimit", one="--iplimit-above --iplimit-mask"),
    "ipv4options": _opaque("ipv4options", "--any", "--flags"),
    "tcpmss": _opaque("tcpmss", one="--mss"),
}  # fmt: skip
"""Matches whose options are known and which nothing can be said about."""
BARE = frozenset(
    {"tcp", "udp", "udplite", "sctp", "dccp", "icmp", "esp", "ah", "limit", "frag", "rt", "hbh", "dst", "rpfilter"}
    | {"socket", "unclean", "psd", "ipp2p", "time", "eui64"}
)
"""Matches that are something without an option."""
_PORTS = {"--sport": 1, "--source-port": 1, "--dport": 1, "--destination-port": 1}
_TRANSPORT = Extension(_PORTS, grammar.build_transport)
EXTENSIONS: Mapping[str, Extension] = {
    "tcp": Extension({**_PORTS, "--tcp-flags": 2, "--syn": 0, "--tcp-option": 1}, grammar.build_transport),
    "udp": _TRANSPORT,
    "udplite": _TRANSPORT,
    "sctp": Extension({**_PORTS, "--chunk-types": 2}, grammar.build_transport),
    "dccp": Extension({**_PORTS, "--dccp-types": 1, "--dccp-option": 1}, grammar.build_transport),
    "icmp": Extension({"--icmp-type": 1}, grammar.build_icmp),
    "icmp6": Extension({"--icmpv6-type": 1, "--icmp-type": 1}, grammar.build_icmp),
    "multiport": Extension(
        dict.fromkeys(("--sports", "--source-ports", "--dports", "--destination-ports", "--ports"), 1), grammar.build_multiport
    ),
    "state": Extension({"--state": 1}, grammar.build_state),
    "conntrack": Extension(
        _each(1, "--ctstate --ctproto --ctorigsrc --ctorigdst --ctreplsrc --ctrepldst --ctorigsrcport --ctorigdstport"
            " --ctreplsrcport --ctrepldstport --ctstatus --ctexpire --ctdir"),
        grammar.build_conntrack,
    ),
    "comment": Extension({"--comment": 1}, grammar.build_nothing),
    "addrtype": Extension(
        {"--src-type": 1, "--dst-type": 1, "--limit-iface-in": 0, "--limit-iface-out": 0}, grammar.build_addrtype
    ),
    "iprange": Extension({"--src-range": 1, "--dst-range": 1}, grammar.build_iprange),
    "mark": Extension({"--mark": 1}, grammar.build_mark),
    "connmark": Extension({"--mark": 1}, grammar.build_connmark),
    "length": Extension({"--length": 1}, grammar.build_length),
    "ttl": Extension({"--ttl-eq": 1, "--ttl-lt": 1, "--ttl-gt": 1, "--ttl": 1}, grammar.build_ttl),
    "hl": Extension({"--hl-eq": 1, "--hl-lt": 1, "--hl-gt": 1, "--hl": 1}, grammar.build_ttl),
    "dscp": Extension({"--dscp": 1, "--dscp-class": 1}, grammar.build_dscp),
    "tos": Extension({"--tos": 1}, grammar.build_tos),
    "mac": Extension({"--mac-source": 1}, grammar.build_mac),
    "pkttype": Extension({"--pkt-type": 1}, grammar.build_pkttype),
    "set": Extension(
        {
            "--match-set": 2,
            "--set": 2,
            "--return-nomatch": 0,
            **dict.fromkeys(("--update-counters", "--update-subcounters"), 0),
            **{f"--{what}-{how}": 1 for what in ("packets", "bytes") for how in ("eq", "lt", "gt")},
        },
        grammar.build_set,
    ),
    "limit": Extension({"--limit": 1, "--limit-burst": 1}, grammar.build_limit),
    "hashlimit": Extension(
        {
            **_each(1, "--hashlimit --hashlimit-upto --hashlimit-above --hashlimit-burst --hashlimit-mode --hashlimit-srcmask"
                " --hashlimit-dstmask --hashlimit-name --hashlimit-htable-size --hashlimit-htable-max"
                " --hashlimit-htable-expire --hashlimit-htable-gcinterval --hashlimit-rate-interval"),
            "--hashlimit-rate-match": 0,
        },
        grammar.build_hashlimit,
    ),
    "physdev": Extension(
        {
            "--physdev-in": 1,
            "--physdev-out": 1,
            "--physdev-is-in": 0,
            "--physdev-is-out": 0,
            "--physdev-is-bridged": 0,
        },
        grammar.build_physdev,
    ),
    "policy": Extension(
        {
            **_each(1, "--dir --pol --reqid --spi --proto --mode --tunnel-src --tunnel-dst"),
            "--strict": 0,
            "--next": 0,
        },
        grammar.build_policy,
    ),
    "owner": Extension(
        {
            **_each(1, "--uid-owner --gid-owner --pid-owner --sid-owner --cmd-owner"),
            "--socket-exists": 0,
            "--suppl-groups": 0,
        },
        grammar.build_owner,
    ),
    "helper": Extension({"--helper": 1}, grammar.build_helper),
    "ecn": Extension({"--ecn-tcp-cwr": 0, "--ecn-tcp-ece": 0, "--ecn-ip-ect": 1}, grammar.build_ecn),
    "recent": Extension(
        {
            **_each(0, "--set --rcheck --update --remove --reap --rttl --rsource --rdest"),
            **_each(1, "--seconds --hitcount --name --mask"),
        },
        grammar.build_recent,
    ),
    "statistic": Extension(_each(1, "--mode --probability --every --packet"), grammar.build_statistic),
    "rpfilter": Extension(_each(0, "--loose --validmark --accept-local --invert"), grammar.build_rpfilter),
    "esp": Extension({"--espspi": 1}, grammar.build_spi),
    "ah": Extension({"--ahspi": 1, "--ahlen": 1, "--ahres": 0}, grammar.build_spi),
    **_OPAQUE,
    "frag": Extension({"--fragid": 1, **_each(0, "--fragres --fragfirst --fragmore --fraglast"), "--fraglen": 1}, grammar.build_absent),
    "rt": Extension(
        {**_each(1, "--rt-type --rt-segsleft --rt-len --rt-0-addrs"), **_each(0, "--rt-0-res --rt-0-not-strict")},
        grammar.build_absent,
    ),
    "hbh": Extension({"--hbh-len": 1, "--hbh-opts": 1}, grammar.build_absent),
    "dst": Extension({"--dst-len": 1, "--dst-opts": 1}, grammar.build_absent),
}  # fmt: skip
"""Extensions that are modelled; ``icmp`` of IPv6 is found as ``icmp6``."""
