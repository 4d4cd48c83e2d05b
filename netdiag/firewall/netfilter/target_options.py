"""The targets of iptables whose options are known, each with the number of its values.

Sources: iptables/extensions/lib{xt,ipt,ip6t}_*.c; xtables-addons/extensions/libxt_*.c.
"""

from __future__ import annotations

from collections.abc import Mapping


def _options(none: str = "", one: str = "", two: str = "") -> dict[str, int]:
    """Options by how many values they take, a name a word."""
    return {
        **dict.fromkeys(none.split(), 0),
        **dict.fromkeys(one.split(), 1),
        **dict.fromkeys(two.split(), 2),
    }


_MARKS = "--set-mark --set-xmark --and-mark --or-mark --xor-mark"
TARGETS: Mapping[str, Mapping[str, int]] = {
    "ACCEPT": {}, "DROP": {}, "RETURN": {}, "QUEUE": {}, "NOTRACK": {}, "TRACE": {}, "STEAL": {}, "DELUDE": {},
    "REJECT": _options(one="--reject-with"),
    "LOG": _options(
        "--log-tcp-sequence --log-tcp-options --log-ip-options --log-uid --log-macdecode", "--log-level --log-prefix"
    ),
    "NFLOG": _options(one="--nflog-group --nflog-prefix --nflog-range --nflog-size --nflog-threshold"),
    "ULOG": _options(one="--ulog-nlgroup --ulog-prefix --ulog-cprange --ulog-qthreshold"),
    "LOGMARK": _options("--log-nfmark --log-ctmark", "--log-level --log-prefix"),
    "MARK": _options(one=_MARKS),
    "CONNMARK": _options(
        "--save-mark --restore-mark", f"{_MARKS} --mask --nfmask --ctmask --left-shift-mark --right-shift-mark"
    ),
    "HMARK": _options("--hmark-tuple-none", "--hmark-tuple --hmark-mod --hmark-offset --hmark-rnd --hmark-src-prefix"
        " --hmark-dst-prefix --hmark-sport-mask --hmark-dport-mask --hmark-sport --hmark-dport --hmark-spi-mask"
        " --hmark-spi --hmark-proto"),
    "CT": _options("--notrack", "--helper --timeout --ctevents --expevents --zone --zone-orig --zone-reply"),
    "TTL": _options(one="--ttl-set --ttl-inc --ttl-dec"),
    "HL": _options(one="--hl-set --hl-inc --hl-dec"),
    "TOS": _options(one="--set-tos --and-tos --or-tos --xor-tos"),
    "DSCP": _options(one="--set-dscp --set-dscp-class"),
    "ECN": _options("--ecn-tcp-remove", "--ecn-tcp-cwr --ecn-tcp-ece --ecn-ip-ect"),
    "DNAT": _options("--random --random-fully --persistent", "--to-destination"),
    "SNAT": _options("--random --random-fully --persistent", "--to-source"),
    "SAME": _options("--nodst --random", "--to"),
    "MASQUERADE": _options("--random --random-fully", "--to-ports"),
    "REDIRECT": _options("--random --random-fully", "--to-ports"),
    "NETMAP": _options(one="--to"),
    "TCPMSS": _options("--clamp-mss-to-pmtu", "--set-mss"),
    "TCPOPTSTRIP": _options(one="--strip-options"),
    "IPV4OPTSSTRIP": {},
    "CLASSIFY": _options(one="--set-class"),
    "SET": _options("--exist --map-mark --map-prio --map-queue", "--timeout", "--add-set --del-set --map-set"),
    "CHECKSUM": _options("--checksum-fill"),
    "SECMARK": _options(one="--selctx"),
    "CONNSECMARK": _options("--save --restore"),
    "AUDIT": _options(one="--type"),
    "LED": _options("--led-always-blink", "--led-trigger-id --led-delay"),
    "RATEEST": _options(one="--rateest-name --rateest-interval --rateest-ewmalog"),
    "TEE": _options(one="--gateway --oif"),
    "IDLETIMER": _options("--alarm --send_nl_msg", "--timeout --label"),
    "ACCOUNT": _options(one="--addr --tname"),
    "FLOWOFFLOAD": _options("--hw"),
    "NFQUEUE": _options("--queue-bypass --queue-cpu-fanout", "--queue-num --queue-balance"),
    "TPROXY": _options(one="--on-port --on-ip --tproxy-mark"),
    "SYNPROXY": _options("--sack-perm --timestamp --ecn", "--wscale --mss"),
    "TARPIT": _options("--tarpit --honeypot --reset"),
}  # fmt: skip
"""A target that is not here takes whatever stands behind it, and what it does is not known."""
