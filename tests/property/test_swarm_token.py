from hypothesis import given
from hypothesis import strategies as st

from netdiag.swarm.token import Token, TokenFault, TokenProblem, base36_of_digest, parse_token

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
secrets = st.text(DIGITS, min_size=25, max_size=25)
heads = st.sampled_from(["SWMTKN-1", "SWMTKN-2-0", "SWMTKN-2-1"])
tokens = st.builds(lambda head, digest, secret: f"{head}-{base36_of_digest(digest)}-{secret}", heads, digests, secrets)


@given(heads, digests, secrets)
def test_a_digest_survives_the_token(head: str, digest: str, secret: str) -> None:
    token = parse_token(f"{head}-{base36_of_digest(digest)}-{secret}")
    assert isinstance(token, Token)
    assert token.digest == digest


@given(tokens, st.data())
def test_a_token_cut_at_any_place_is_named_so(token: str, data: st.DataObject) -> None:
    problem = parse_token(token[: data.draw(st.integers(1, len(token) - 1))])
    assert isinstance(problem, TokenProblem)
    assert problem.fault is TokenFault.CUT


@given(tokens, st.integers(0, 90), st.sampled_from(["", " ", "!", "X", "–", '"', "zz"]))
def test_nothing_said_about_a_token_holds_its_secret(token: str, at: int, inserted: str) -> None:
    broken = token[:at] + inserted + token[at:]
    said = repr(parse_token(broken)) + str(parse_token(broken))
    secret = token[-25:]
    # Five characters in a row with letters and numerals: shorter ones may stand in a word or a digest by chance.
    pieces = [secret[start : start + 5] for start in range(21)]
    telling = [piece for piece in pieces if not piece.isdigit() and not piece.isalpha() and not hexadecimal(piece)]
    assert not any(piece in said for piece in telling)


@given(st.text(max_size=120))
def test_any_text_is_judged(text: str) -> None:
    assert isinstance(parse_token(text), Token | TokenProblem)


def hexadecimal(piece: str) -> bool:
    return all(digit in "0123456789abcdef" for digit in piece)
