"""Join tokens, without ever keeping their secret.

A token is ``SWMTKN-1-<digest>-<secret>``, or ``SWMTKN-2-<0|1>-<digest>-<secret>`` where 1 means that the cluster
demands FIPS mode. The digest is the SHA-256 of the root CA bundle as a number in base 36, 50 digits; the secret is 16
random bytes in base 36, 25 digits (swarmkit ``ca/config.go``, ``GenerateJoinToken`` and ``ParseJoinToken``).

The engine says "invalid join token" for most that is wrong here. Some of it passes the engine and is refused by the
manager only after ten seconds: ``ParseJoinToken`` reads upper case as the same number and never looks at the secret's
characters, while the manager compares the token as text.
"""

from __future__ import annotations

import enum
import hashlib
import re

import msgspec

DIGEST_DIGITS = 50
SECRET_DIGITS = 25

_PREFIX = "SWMTKN"
_DASHES = "‐‑‒–—―−﹣"
_QUOTES = "\"'`“”‘’«»"
_NOT_BASE36 = re.compile(r"[^0-9a-z]")
_WITHOUT_BEGINNING = re.compile(rf"[0-9A-Za-z-]*[0-9a-z]-[0-9a-z]{{{SECRET_DIGITS}}}")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class TokenFault(enum.Enum):
    """What is wrong with the text that should be a token."""

    EMPTY = "empty"
    NOT_A_TOKEN = "not-a-token"  # noqa: S105  a name for a fault, not a password
    WHITESPACE = "whitespace"
    """A blank or line break inside: a wrapped line, or a whole command instead of the token."""
    QUOTES = "quotes"
    TYPOGRAPHIC_DASH = "typographic-dash"
    """A word processor or chat program made another character of the hyphen."""
    UNKNOWN_VERSION = "unknown-version"
    CUT = "cut"
    EXTRA = "extra"
    SWAPPED = "swapped"
    """Digest and secret in each other's place."""
    UPPER_CASE = "upper-case"
    BAD_CHARACTERS = "bad-characters"
    BAD_FIPS_FLAG = "bad-fips-flag"
    DIGEST_TOO_LARGE = "digest-too-large"
    """More than 256 bits: no SHA-256 gives this number, so a digit is wrong."""


class TokenProblem(msgspec.Struct, frozen=True):
    """Why a text is no token. The explanation is one line and holds no part of the text."""

    fault: TokenFault
    explanation: str


class Token(msgspec.Struct, frozen=True):
    """What a token says about its swarm; nothing in here is secret.

    Attributes:
        version: 1 or 2.
        fips: The cluster takes only nodes in FIPS mode.
        digest: SHA-256 of the root CA bundle, 64 lower-case hexadecimal digits.
        secret_possible: False when the secret is above 128 bits: no manager has made it, so a digit is wrong. The
            engine does not notice; the manager refuses it.
    """

    version: int
    fips: bool
    digest: str
    secret_possible: bool

    def matches(self, root_pem: bytes) -> bool:
        """Whether this token belongs to the swarm with this root CA bundle (exactly as a manager sent it)."""
        return self.digest == digest_of_ca(root_pem)


def digest_of_ca(root_pem: bytes) -> str:
    """SHA-256 of a root CA bundle, over the exact PEM bytes (swarmkit ``ca/certificates.go``, ``NewRootCA``)."""
    return hashlib.sha256(root_pem).hexdigest()


def parse_token(text: str) -> Token | TokenProblem:
    """Read a join token; blanks and line ends around it do not matter.

    Returns:
        The token without its secret, or what is wrong with it.
    """
    token = text.strip()
    problem = _problem_of_text(token)
    if problem is not None:
        return problem
    parts = token.split("-")
    problem = _problem_of_parts(token, parts) or _problem_of_characters(parts)
    if problem is not None:
        return problem
    digest = int(parts[-2], 36)
    if digest >= 1 << 256:
        return TokenProblem(
            TokenFault.DIGEST_TOO_LARGE,
            "the digest in the token is larger than any SHA-256; one of its digits is wrong",
        )
    return Token(
        version=int(parts[1]),
        fips=parts[1] == "2" and parts[2] == "1",
        digest=f"{digest:064x}",
        secret_possible=int(parts[-1], 36) < 1 << 128,
    )


def base36_of_digest(digest: str) -> str:
    """The digest part of a token for a SHA-256 in hexadecimal; the inverse of what `parse_token` does."""
    number, digits = int(digest, 16), ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits.rjust(DIGEST_DIGITS, "0")


def _problem_of_text(token: str) -> TokenProblem | None:
    """What can be said before the parts are looked at."""
    if not token:
        return TokenProblem(TokenFault.EMPTY, "the join token is empty")
    if re.search(r"\s", token):
        whole = (
            "; this looks like a whole command: give only the word that begins with SWMTKN" if "join" in token else ""
        )
        return TokenProblem(TokenFault.WHITESPACE, f"the join token has a blank or a line break inside{whole}")
    if any(quote in token for quote in _QUOTES):
        return TokenProblem(TokenFault.QUOTES, "the join token has quotation marks in it; give it without them")
    if any(dash in token for dash in _DASHES):
        return TokenProblem(
            TokenFault.TYPOGRAPHIC_DASH, "a program replaced a hyphen of the join token by another dash; copy it again"
        )
    return None


def _problem_of_parts(token: str, parts: list[str]) -> TokenProblem | None:
    """Whether there are the right parts with the right lengths."""
    if parts[0] != _PREFIX:
        return _problem_of_beginning(token, parts)
    version = parts[1] if len(parts) > 1 else ""
    if not version:
        return TokenProblem(TokenFault.CUT, "the join token is cut off right after its beginning")
    if version not in {"1", "2"}:
        return TokenProblem(TokenFault.UNKNOWN_VERSION, "the join token has a version other than 1 and 2")
    wanted = 4 if version == "1" else 5
    if len(parts) < wanted:
        return TokenProblem(TokenFault.CUT, f"the join token is cut: {len(parts)} of {wanted} parts are there")
    if len(parts) > wanted:
        return TokenProblem(TokenFault.EXTRA, f"the join token has {len(parts)} parts instead of {wanted}")
    if version == "2" and parts[2] not in {"0", "1"}:
        return TokenProblem(TokenFault.BAD_FIPS_FLAG, "the third part of the join token must be 0 or 1")
    return _problem_of_lengths(len(parts[-2]), len(parts[-1]))


def _problem_of_beginning(token: str, parts: list[str]) -> TokenProblem:
    if parts[0].upper() == _PREFIX:
        return TokenProblem(TokenFault.UPPER_CASE, "the join token must begin with SWMTKN in upper case")
    if len(parts) == 1 and _PREFIX.startswith(token):
        return TokenProblem(TokenFault.CUT, "the join token is cut off within its first part")
    if _WITHOUT_BEGINNING.fullmatch(token):
        return TokenProblem(TokenFault.CUT, "the beginning of the join token is missing; it starts with SWMTKN")
    return TokenProblem(TokenFault.NOT_A_TOKEN, "this is not a join token: those begin with SWMTKN-")


def _problem_of_lengths(digest: int, secret: int) -> TokenProblem | None:
    if (digest, secret) == (SECRET_DIGITS, DIGEST_DIGITS):
        return TokenProblem(TokenFault.SWAPPED, "the last two parts of the join token have changed places")
    for name, length, wanted in (("digest", digest, DIGEST_DIGITS), ("secret", secret, SECRET_DIGITS)):
        if length < wanted:
            return TokenProblem(TokenFault.CUT, f"the join token is cut: its {name} has {length} of {wanted} digits")
        if length > wanted:
            return TokenProblem(TokenFault.EXTRA, f"the join token's {name} has {length} digits instead of {wanted}")
    return None


def _problem_of_characters(parts: list[str]) -> TokenProblem | None:
    """Whether digest and secret are in base 36, lower case, as managers write it."""
    for part in (-2, -1):
        bad = _NOT_BASE36.search(parts[part])
        if bad is None:
            continue
        position = sum(len(before) + 1 for before in parts[:part]) + bad.start() + 1
        if re.fullmatch(r"[0-9A-Za-z]+", parts[part]):
            return TokenProblem(
                TokenFault.UPPER_CASE,
                f"character {position} of the join token is in upper case; the manager refuses that",
            )
        return TokenProblem(
            TokenFault.BAD_CHARACTERS, f"character {position} of the join token is neither a digit nor one of a to z"
        )
    return None
