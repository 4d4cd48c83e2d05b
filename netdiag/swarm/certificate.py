"""What the certificates of a swarm say: who, which cluster, which role, and what they tell about clocks.

swarmkit puts the node id into the common name, the cluster id into the organisation and the role into the
organisational unit (``ca/certificates.go``, ``ca/config.go``). Certificates are backdated: a node's by one hour
(``CertBackdate`` in ``ca/certificates.go``), the root's by five minutes (cfssl ``signer/signer.go``, ``FillTemplate``,
which also rounds to the full minute), so a joining clock may be that much behind and no more.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from cryptography import x509

NODE_BACKDATE_S = 3600.0
ROOT_BACKDATE_S = 300.0

_ROUNDING_S = 30.0
"""cfssl rounds the time of issue to the nearest minute, so up to this much upwards."""

MANAGER_ROLE = "swarm-manager"
WORKER_ROLE = "swarm-worker"


class Unreadable(msgspec.Struct, frozen=True):
    """Bytes that hold no certificate; the reason is one line."""

    reason: str


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """The part of an X.509 certificate that a swarm uses.

    Attributes:
        common_name: The node id; of a root, a name such as ``swarm-ca``.
        organization: The cluster id; empty in a root.
        role: ``swarm-manager`` or ``swarm-worker``; empty in a root.
        not_before_s: Begin of validity, Unix time.
        not_after_s: End of validity, Unix time.
    """

    common_name: str
    organization: str
    role: str
    dns_names: tuple[str, ...]
    issuer_common_name: str
    not_before_s: float
    not_after_s: float
    is_ca: bool


class WindowFault(enum.Enum):
    """On which side of its validity a certificate is."""

    NOT_YET_VALID = "not-yet-valid"
    EXPIRED = "expired"


class WindowProblem(msgspec.Struct, frozen=True):
    """A certificate that a clock does not accept, and how far off it is, in seconds."""

    fault: WindowFault
    by_s: float

    def text(self) -> str:
        """One line for people."""
        if self.fault is WindowFault.NOT_YET_VALID:
            return f"not yet valid: the clock is {_span(self.by_s)} before its first moment"
        return f"expired {_span(self.by_s)} ago"


def parse_certificates(data: bytes) -> tuple[Certificate, ...] | Unreadable:
    """Read one DER certificate, or all of a PEM bundle.

    A root may be a bundle. While it is rotated, 20.10 goes on giving joining hosts the old root alone, and its tokens
    keep the old digest until the rotation is complete.
    """
    from cryptography import x509

    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            parsed = x509.load_pem_x509_certificates(data)
        else:
            parsed = [x509.load_der_x509_certificate(data)]
        return tuple(_certificate(one) for one in parsed)
    except (ValueError, TypeError, x509.DuplicateExtension, x509.InvalidVersion) as problem:
        return Unreadable(f"no X.509 certificate: {str(problem).splitlines()[0] if str(problem) else 'malformed'}")


def is_swarm_manager(certificate: Certificate) -> bool:
    """Whether this is the certificate of a node that was a manager when it was issued."""
    return certificate.role == MANAGER_ROLE and not certificate.is_ca


def window_problem(certificate: Certificate, now_s: float) -> WindowProblem | None:
    """Whether a clock that shows ``now_s`` (Unix time) takes the certificate as valid; None if so."""
    if now_s < certificate.not_before_s:
        return WindowProblem(WindowFault.NOT_YET_VALID, certificate.not_before_s - now_s)
    if now_s > certificate.not_after_s:
        return WindowProblem(WindowFault.EXPIRED, now_s - certificate.not_after_s)
    return None


def manager_clock_lower_bound_s(certificate: Certificate) -> float:
    """What the clock of the issuing manager showed at least when it made this certificate (Unix time).

    Every manager has passed this moment since, so a local clock that shows less is behind. If it is behind by more than
    the backdate, a join fails with "certificate has expired or is not yet valid". With an external CA the backdate is
    that CA's affair and this bound does not hold.
    """
    backdate_s = ROOT_BACKDATE_S if certificate.is_ca else NODE_BACKDATE_S
    return certificate.not_before_s + backdate_s - _ROUNDING_S


def _certificate(parsed: x509.Certificate) -> Certificate:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def first(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
        values = name.get_attributes_for_oid(oid)
        return str(values[0].value) if values else ""

    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns_names = tuple(names.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        dns_names = ()
    try:
        is_ca = parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    return Certificate(
        common_name=first(parsed.subject, NameOID.COMMON_NAME),
        organization=first(parsed.subject, NameOID.ORGANIZATION_NAME),
        role=first(parsed.subject, NameOID.ORGANIZATIONAL_UNIT_NAME),
        dns_names=dns_names,
        issuer_common_name=first(parsed.issuer, NameOID.COMMON_NAME),
        not_before_s=parsed.not_valid_before_utc.timestamp(),
        not_after_s=parsed.not_valid_after_utc.timestamp(),
        is_ca=is_ca,
    )


def _span(seconds: float) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"
