"""Which kernel features netdiag looks for, what each is needed for, and how each is recognised. Data only."""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """One thing that must be there: any of the config symbols (without CONFIG_), any of the modules."""

    symbols: tuple[str, ...]
    modules: tuple[str, ...] = ()
    proof: tuple[str, str] = ("", "")
    """A file of /proc and a word in it (or "") that show it in use."""


class FeatureSpec(NamedTuple):
    """A feature by its name, what fails without it, and its parts (all are needed)."""

    name: str
    needed_for: str
    parts: tuple[Part, ...]
    device_kind: str = ""
    """The rtnl link kind that proves it, where creating a device is a proof."""


def _one(name: str, needed_for: str, symbol: str, *modules: str, kind: str = "") -> FeatureSpec:
    symbols = tuple(symbol.split("|"))
    return FeatureSpec(name, needed_for, (Part(symbols, modules or (name,)),), kind)


FEATURES: tuple[FeatureSpec, ...] = (
    _one("vxlan", "overlay networks carry container traffic in it", "VXLAN", kind="vxlan"),
    _one("bridge", "every bridge and overlay network is one", "BRIDGE", kind="bridge"),
    _one("veth", "every container's interface is one", "VETH", kind="veth"),
    _one("br_netfilter", "traffic inside a bridge passes iptables only with it", "BRIDGE_NETFILTER"),
    FeatureSpec(
        "overlay",
        "the overlay2 storage driver",
        (Part(("OVERLAY_FS",), ("overlay",), ("/proc/filesystems", "overlay")),),
    ),
    FeatureSpec(
        "ip_vs",
        "virtual IPs of services and the routing mesh",
        (Part(("IP_VS",), ("ip_vs",), ("/proc/net/ip_vs", "")),),
    ),
    _one("ip_vs_rr", "virtual IPs spread connections in turn (round robin)", "IP_VS_RR"),
    FeatureSpec(
        "ip_vs_nfct",
        "virtual IPs keep connection tracking (source NAT of the routing mesh)",
        (Part(("IP_VS_NFCT",), (), ("/proc/sys/net/ipv4/vs/conntrack", "")),),
    ),
    _one("xt_ipvs", "the routing mesh's source NAT", "NETFILTER_XT_MATCH_IPVS"),
    _one("xt_addrtype", "published ports", "NETFILTER_XT_MATCH_ADDRTYPE"),
    _one("xt_conntrack", "the engine's rules for bridges", "NETFILTER_XT_MATCH_CONNTRACK"),
    _one("xt_mark", "virtual IPs and encrypted overlays", "NETFILTER_XT_MARK|NETFILTER_XT_MATCH_MARK"),
    _one("xt_bpf", "encrypted overlays, engine 23.0.3 and later", "NETFILTER_XT_MATCH_BPF"),
    _one("xt_u32", "encrypted overlays, engine 23.0.2 and earlier", "NETFILTER_XT_MATCH_U32"),
    _one("xt_policy", "encrypted overlays refuse plain packets with it", "NETFILTER_XT_MATCH_POLICY"),
    _one("xt_nat", "published ports", "NETFILTER_XT_NAT|NF_NAT"),
    _one("xt_set", "Calico's policy and fail2ban", "NETFILTER_XT_SET"),
    _one("nf_conntrack", "network address translation", "NF_CONNTRACK"),
    _one("nf_nat", "published ports and outgoing traffic of containers", "NF_NAT"),
    _one(
        "masquerade",
        "outgoing traffic of containers",
        "NETFILTER_XT_TARGET_MASQUERADE|IP_NF_TARGET_MASQUERADE",
        "xt_MASQUERADE",
        "ipt_MASQUERADE",
    ),
    _one(
        "xt_redirect",
        "published ports inside a task",
        "NETFILTER_XT_TARGET_REDIRECT|IP_NF_TARGET_REDIRECT",
        "xt_REDIRECT",
    ),
    _one("ip_tables", "iptables-legacy", "IP_NF_IPTABLES_LEGACY|IP_NF_IPTABLES"),
    _one("ip6_tables", "ip6tables-legacy", "IP6_NF_IPTABLES_LEGACY|IP6_NF_IPTABLES"),
    _one("nf_tables", "nft and iptables-nft; the best trace of a packet", "NF_TABLES"),
    _one("nft_compat", "iptables-nft", "NFT_COMPAT"),
    _one("ip_set", "ipset", "IP_SET"),
    FeatureSpec(
        "esp4",
        "encrypted overlays",
        (Part(("INET_ESP",), ("esp4",)),),
    ),
    FeatureSpec(
        "gcm",
        "encrypted overlays: their cipher is rfc4106(gcm(aes))",
        (Part(("CRYPTO_GCM",), ("gcm",), ("/proc/crypto", "gcm(aes)")), Part(("CRYPTO_SEQIV",), ("seqiv",))),
    ),
    _one("xfrm_user", "the engine programs encrypted overlays through it", "XFRM_USER"),
    _one("ipip", "Calico's IP-in-IP pools", "NET_IPIP", kind="ipip"),
    _one("tun", "probes that must arrive without a peer's help", "TUN"),
    FeatureSpec(
        "clsact",
        "packets that must arrive without a peer's help, before kernel 6.6",
        (Part(("NET_SCH_INGRESS",), ("sch_ingress",)), Part(("NET_CLS_BPF",), ("cls_bpf",))),
    ),
    _one("nfnetlink_log", "what legacy iptables chains report of a packet", "NETFILTER_NETLINK_LOG"),
    _one("macvlan", "macvlan networks", "MACVLAN", kind="macvlan"),
    _one("dummy", "interfaces for service addresses", "DUMMY", kind="dummy"),
)

BY_NAME = {feature.name: feature for feature in FEATURES}
"""The table by name; `netdiag.model.facts.Kernel` uses the same names."""
