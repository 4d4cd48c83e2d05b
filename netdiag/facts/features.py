"""The kernel features that netdiag asks about, as data: configuration symbol, module, and what shows that it is loaded."""

from __future__ import annotations

import msgspec


class FeatureSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where a kernel feature is recognised.

    Attributes:
        symbols: Configuration symbols; any of them set is enough (names changed between kernels).
        module: The module's name, with underscores.
        witness: A path that exists only while the feature is there.
    """

    name: str
    symbols: tuple[str, ...]
    module: str
    witness: str = ""


def _source(name: str, symbols: str, module: str, witness: str = "") -> FeatureSource:
    return FeatureSource(name=name, symbols=tuple(symbols.split()), module=module, witness=witness)


FEATURES: tuple[FeatureSource, ...] = (
    _source("vxlan", "VXLAN", "vxlan"),
    _source("bridge", "BRIDGE", "bridge"),
    _source("veth", "VETH", "veth"),
    _source("br_netfilter", "BRIDGE_NETFILTER", "br_netfilter", "/proc/sys/net/bridge/bridge-nf-call-iptables"),
    _source("overlay", "OVERLAY_FS", "overlay"),
    _source("ip_vs", "IP_VS", "ip_vs", "/proc/net/ip_vs"),
    _source("ip_vs_rr", "IP_VS_RR", "ip_vs_rr"),
    _source("ip_vs_nfct", "IP_VS_NFCT", "ip_vs"),
    _source("xt_ipvs", "NETFILTER_XT_MATCH_IPVS", "xt_ipvs"),
    _source("xt_addrtype", "NETFILTER_XT_MATCH_ADDRTYPE", "xt_addrtype"),
    _source("xt_conntrack", "NETFILTER_XT_MATCH_CONNTRACK", "xt_conntrack"),
    _source("xt_mark", "NETFILTER_XT_MARK", "xt_mark"),
    _source("xt_multiport", "NETFILTER_XT_MATCH_MULTIPORT", "xt_multiport"),
    _source("xt_bpf", "NETFILTER_XT_MATCH_BPF", "xt_bpf"),
    _source("xt_u32", "NETFILTER_XT_MATCH_U32", "xt_u32"),
    _source("xt_set", "NETFILTER_XT_SET", "xt_set"),
    _source("ip_set", "IP_SET", "ip_set"),
    _source("nf_conntrack", "NF_CONNTRACK", "nf_conntrack", "/proc/sys/net/netfilter/nf_conntrack_count"),
    _source("nf_nat", "NF_NAT", "nf_nat"),
    _source("masquerade", "IP_NF_TARGET_MASQUERADE NETFILTER_XT_TARGET_MASQUERADE", "xt_MASQUERADE"),
    _source("ip_tables", "IP_NF_IPTABLES IP_NF_IPTABLES_LEGACY", "ip_tables"),
    _source("ip6_tables", "IP6_NF_IPTABLES IP6_NF_IPTABLES_LEGACY", "ip6_tables"),
    _source("nf_tables", "NF_TABLES", "nf_tables"),
    _source("nft_compat", "NFT_COMPAT", "nft_compat"),
    _source("xfrm_user", "XFRM_USER", "xfrm_user", "/proc/net/xfrm_stat"),
    _source("esp4", "INET_ESP", "esp4"),
    _source("gcm", "CRYPTO_GCM", "gcm"),
    _source("seqiv", "CRYPTO_SEQIV", "seqiv"),
    _source("ghash", "CRYPTO_GHASH", "ghash_generic"),
    _source("ipip", "NET_IPIP", "ipip"),
    _source("tun", "TUN", "tun", "/dev/net/tun"),
    _source("dummy", "DUMMY", "dummy"),
)
"""moby contrib/check-config.sh, and what Calico and netdiag's own probes use."""
