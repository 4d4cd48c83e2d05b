import pytest

from netdiag.swarm.token import Token, TokenFault, TokenProblem, base36_of_digest, digest_of_ca, parse_token

DIGEST = "01d8f3e2790f09c1d08bf0a0e766a45de22484f340b4921e4151222ef8929ab0"
DIGEST36 = "01nobzmsbmewq1telfqwenrz2eyaorz59dt66kx3olycqwg980"
SECRET = "0p7nbl4m7ordfuj5gvk0jygzv"
GOOD = f"SWMTKN-1-{DIGEST36}-{SECRET}"


@pytest.mark.parametrize(
    ("text", "version", "fips"),
    [
        pytest.param(GOOD, 1, False, id="version 1"),
        pytest.param(f"  {GOOD}\n", 1, False, id="blanks around it"),
        pytest.param(f"SWMTKN-2-0-{DIGEST36}-{SECRET}", 2, False, id="version 2"),
        pytest.param(f"SWMTKN-2-1-{DIGEST36}-{SECRET}", 2, True, id="version 2 with FIPS"),
    ],
)
def test_a_good_token_gives_its_digest(text: str, version: int, fips: bool) -> None:
    assert parse_token(text) == Token(version=version, fips=fips, digest=DIGEST, secret_possible=True)


@pytest.mark.parametrize(
    ("text", "fault", "word"),
    [
        pytest.param("", TokenFault.EMPTY, "empty", id="nothing"),
        pytest.param(" \n", TokenFault.EMPTY, "empty", id="blanks only"),
        pytest.param("hello", TokenFault.NOT_A_TOKEN, "SWMTKN", id="a word"),
        pytest.param("SWMKEY-1-abc", TokenFault.NOT_A_TOKEN, "SWMTKN", id="an unlock key"),
        pytest.param(GOOD.replace("SWMTKN", "swmtkn"), TokenFault.UPPER_CASE, "upper case", id="lower-case prefix"),
        pytest.param(GOOD[:30] + "\n" + GOOD[30:], TokenFault.WHITESPACE, "line break", id="wrapped"),
        pytest.param(
            f"docker swarm join --token {GOOD} 10.0.0.1:2377",
            TokenFault.WHITESPACE,
            "whole command",
            id="whole command",
        ),
        pytest.param(f'"{GOOD}"', TokenFault.QUOTES, "quotation", id="quoted"),
        pytest.param(GOOD.replace("-", "–", 1), TokenFault.TYPOGRAPHIC_DASH, "hyphen", id="word processor"),
        pytest.param(GOOD.replace("-1-", "-3-"), TokenFault.UNKNOWN_VERSION, "version", id="version 3"),
        pytest.param(GOOD[:-1], TokenFault.CUT, "24 of 25", id="last character missing"),
        pytest.param(GOOD[2:], TokenFault.CUT, "beginning", id="first characters missing"),
        pytest.param(GOOD + "a", TokenFault.EXTRA, "26 digits", id="a character too many"),
        pytest.param(GOOD + "-a", TokenFault.EXTRA, "5 parts", id="a part too many"),
        pytest.param(f"SWMTKN-2-{DIGEST36}-{SECRET}", TokenFault.CUT, "4 of 5", id="FIPS flag missing"),
        pytest.param(f"SWMTKN-2-x-{DIGEST36}-{SECRET}", TokenFault.BAD_FIPS_FLAG, "0 or 1", id="FIPS flag wrong"),
        pytest.param(f"SWMTKN-1-{SECRET}-{DIGEST36}", TokenFault.SWAPPED, "places", id="parts swapped"),
        # Seen with 20.10.24: upper case passes the engine and is refused by the manager after 10 s.
        pytest.param(GOOD.upper(), TokenFault.UPPER_CASE, "character 12 ", id="all upper case"),
        pytest.param(GOOD[:-1] + "!", TokenFault.BAD_CHARACTERS, "character 85 ", id="bad character in the secret"),
        pytest.param(f"SWMTKN-1-{'z' * 50}-{SECRET}", TokenFault.DIGEST_TOO_LARGE, "SHA-256", id="digest too large"),
    ],
)
def test_what_is_wrong_is_named(text: str, fault: TokenFault, word: str) -> None:
    problem = parse_token(text)

    assert isinstance(problem, TokenProblem)
    assert problem.fault is fault
    assert word in problem.explanation
    assert "\n" not in problem.explanation


def test_a_secret_above_128_bits_is_not_possible() -> None:
    token = parse_token(f"SWMTKN-1-{DIGEST36}-{'z' * 25}")
    assert isinstance(token, Token)
    assert not token.secret_possible


def test_the_digest_is_over_the_exact_bytes() -> None:
    pem = b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
    token = parse_token(f"SWMTKN-1-{base36_of_digest(digest_of_ca(pem))}-{SECRET}")
    assert isinstance(token, Token)
    assert token.matches(pem)
    assert not token.matches(pem.rstrip())
