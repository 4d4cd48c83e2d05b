"""What the engine says about joining and gossip: the messages, and what each means.

Texts are those of 20.10 to 29 (moby ``daemon/cluster``, ``daemon/libnetwork``; swarmkit ``node``, ``ca``, ``agent``;
hashicorp/memberlist). gRPC and Go changed their punctuation in between, so a pattern keeps to the words.
"""

from __future__ import annotations

import enum
import re
from typing import Final

import msgspec


class JoinStage(enum.Enum):
    """What is being attempted, in order."""

    TCP = "tcp"
    TLS = "tls"
    ROOT_CA = "root-ca"
    CERTIFICATE = "certificate"
    SESSION = "session"
    RAFT = "raft"
    """Managers only: the leader connects to the new manager."""
    JOINED = "joined"
    UNKNOWN = "unknown"


class JoinProblem(enum.Enum):
    """Why it does not go on, or what is wrong after it did."""

    SILENT_DROP = "silent-drop"
    REFUSED = "refused"
    HOST_PROHIBITED = "host-prohibited"
    """ "No route to host": an ICMP reject of a firewall, or indeed no route."""
    NOT_TLS = "not-tls"
    CLIENT_CERTIFICATE_WANTED = "client-certificate-wanted"
    """TLS, but of the engine's API (2376), not of a manager."""
    TOKEN_FORMAT = "token-format"  # noqa: S105  a name for a fault, not a password
    WRONG_CA = "wrong-ca"
    FOREIGN_CERTIFICATE = "foreign-certificate"
    """A certificate of another swarm: leftovers of an earlier membership, a cloned machine."""
    CLOCK = "clock"
    BAD_SECRET = "bad-secret"  # noqa: S105  a name for a fault, not a password
    FIPS = "fips"
    CERTIFICATE_TIMEOUT = "certificate-timeout"
    NO_SIGNER = "no-signer"
    NO_LEADER = "no-leader"
    SESSION_TIMEOUT = "session-timeout"
    NOT_DIALLED_BACK = "not-dialled-back"
    ALREADY_MEMBER = "already-member"
    LOCKED = "locked"
    CERTIFICATE_EXPIRED = "certificate-expired"
    ENGINE_SETTING = "engine-setting"
    GOSSIP_UDP_BLOCKED = "gossip-udp-blocked"
    """udp/7946 only; tcp/7946 passes."""
    GOSSIP_BLOCKED = "gossip-blocked"
    GOSSIP_KEYS = "gossip-keys"


class LogClass(msgspec.Struct, frozen=True, kw_only=True):
    """What a line of the engine's log, or an error of its API, says about joining.

    Attributes:
        peer: ``address:port`` or the peer's name, where the line has it.
        meaning: One line for people.
    """

    stage: JoinStage
    problem: JoinProblem
    meaning: str
    peer: str = ""


class MessageRule(msgspec.Struct, frozen=True):
    """A pattern over a line of the log or an error text, and what it means; a group ``peer`` names the other end."""

    pattern: re.Pattern[str]
    stage: JoinStage
    problem: JoinProblem
    meaning: str


def _rule(pattern: str, stage: JoinStage, problem: JoinProblem, meaning: str) -> MessageRule:
    return MessageRule(re.compile(pattern), stage, problem, meaning)


_S, _P = JoinStage, JoinProblem

# The first that matches decides. "Error while dialing" is gRPC's: an image pull that cannot connect does not say it.
MESSAGE_RULES: Final[tuple[MessageRule, ...]] = (
    _rule(
        r"could not connect to prospective new cluster member",
        _S.RAFT,
        _P.NOT_DIALLED_BACK,
        "the leader cannot connect to this new manager at its advertised address; a dead node record stays behind",
    ),
    _rule(r"invalid join token", _S.ROOT_CA, _P.TOKEN_FORMAT, "the join token is malformed"),
    _rule(
        r"remote CA does not match fingerprint",
        _S.ROOT_CA,
        _P.WRONG_CA,
        "the token belongs to another swarm, or the swarm's CA was rotated since, or somebody else answers there",
    ),
    _rule(
        r"A valid join token is necessary",
        _S.CERTIFICATE,
        _P.BAD_SECRET,
        "this is the right swarm, but the token's secret is wrong or was rotated",
    ),
    _rule(r"not FIPS-enabled but cluster requires FIPS", _S.CERTIFICATE, _P.FIPS, "the swarm takes FIPS nodes only"),
    _rule(
        r"Swarm certificates have expired",
        _S.SESSION,
        _P.CERTIFICATE_EXPIRED,
        "the node was away for longer than its certificate lasts; it must leave and join again",
    ),
    _rule(
        r"validating Root CA Certificate.*(?:has expired or is )?not yet valid",
        _S.ROOT_CA,
        _P.CLOCK,
        "this clock is behind the creation of the swarm's root CA by more than 5 minutes, or the CA has expired",
    ),
    _rule(
        r"x509: certificate has expired or is not yet valid",
        _S.CERTIFICATE,
        _P.CLOCK,
        "a certificate is outside its validity: the clocks differ by more than an hour, or it has expired",
    ),
    _rule(
        r"x509: certificate signed by unknown authority|certificate not signed by",
        _S.CERTIFICATE,
        _P.FOREIGN_CERTIFICATE,
        "a certificate of another swarm is in use: leftovers in the engine's swarm directory, or a cloned machine",
    ),
    _rule(
        r"first record does not look like a TLS handshake|tls: oversized record",
        _S.TLS,
        _P.NOT_TLS,
        "something else than a manager listens there: it does not speak TLS",
    ),
    _rule(
        r"tls: (?:bad certificate|certificate required)",
        _S.TLS,
        _P.CLIENT_CERTIFICATE_WANTED,
        "the peer speaks TLS but wants another certificate; 2376 is the engine's API, managers listen on 2377",
    ),
    _rule(r"no valid signer found", _S.CERTIFICATE, _P.NO_SIGNER, "this manager has no key to sign certificates with"),
    _rule(
        r"does not have a leader|no elected cluster leader|raft: no leader|lost quorum",
        _S.CERTIFICATE,
        _P.NO_LEADER,
        "the managers have no leader: too few of them reach each other",
    ),
    _rule(
        r"session initiation timed out",
        _S.SESSION,
        _P.SESSION_TIMEOUT,
        "the manager answers small messages but the first large one never arrives: a path with a smaller MTU",
    ),
    _rule(
        r"incompatible with swarm mode",
        _S.UNKNOWN,
        _P.ENGINE_SETTING,
        "a setting of the engine forbids swarm mode (live-restore, or the nftables firewall backend)",
    ),
    _rule(r"Swarm is encrypted and needs to be unlocked", _S.UNKNOWN, _P.LOCKED, "the swarm is locked"),
    _rule(
        r"already part of a swarm",
        _S.UNKNOWN,
        _P.ALREADY_MEMBER,
        "this engine is in a swarm, or a join is still pending",
    ),
    _rule(
        r"memberlist: Was able to connect to (?P<peer>\S+) (?:over TCP )?but (?:other|UDP) probes failed",
        _S.JOINED,
        _P.GOSSIP_UDP_BLOCKED,
        "udp/7946 is blocked between these nodes while tcp/7946 passes: new names appear up to 30 s late",
    ),
    _rule(
        r"Failed to join (?P<peer>[0-9a-fA-F.:\[\]]+): ",
        _S.JOINED,
        _P.GOSSIP_BLOCKED,
        "tcp/7946 is blocked between these nodes: names of the other node do not resolve here",
    ),
    _rule(
        r"could not join node to memberlist|Failed to join memberlist|failed to send a TCP message during bulk sync",
        _S.JOINED,
        _P.GOSSIP_BLOCKED,
        "tcp/7946 is blocked between these nodes: names of the other node do not resolve here",
    ),
    _rule(
        r"No installed keys could decrypt the message|Encryption is configured but remote state is not encrypted",
        _S.JOINED,
        _P.GOSSIP_KEYS,
        "gossip that this node cannot decrypt: another swarm at these addresses, a missed key rotation, or a scanner",
    ),
    _rule(
        r"Error while dialing.*dial tcp (?P<peer>\S+?): .*connection refused",
        _S.TCP,
        _P.REFUSED,
        "nothing listens there: not a manager, another port, or another interface",
    ),
    _rule(
        r"Error while dialing.*dial tcp (?P<peer>\S+?): .*no route to host",
        _S.TCP,
        _P.HOST_PROHIBITED,
        "a firewall rejects with host-prohibited, or there is no route",
    ),
    _rule(
        r"Error while dialing.*dial tcp (?P<peer>\S+?): .*(?:i/o timeout|connection timed out)",
        _S.TCP,
        _P.SILENT_DROP,
        "packets to the manager's port, or its answers, are dropped without a word",
    ),
    _rule(
        r"failed to request (?:and )?save new certificate.*[Dd]eadline ?[Ee]xceeded",
        _S.CERTIFICATE,
        _P.CERTIFICATE_TIMEOUT,
        "the managers give no certificate: no leader, no signing key, or too busy",
    ),
    _rule(
        r"failed to retrieve remote root CA certificate.*[Dd]eadline ?[Ee]xceeded",
        _S.TCP,
        _P.SILENT_DROP,
        "packets to the manager's port, or its answers, are dropped without a word",
    ),
)
