from hypothesis import given
from hypothesis import strategies as st

from netdiag.swarm.ca_call import CaResponse, parse_response

SETTINGS = bytes(3) + b"\x04" + bytes(5)
frames = st.builds(
    lambda kind, flags, stream, body: len(body).to_bytes(3, "big") + bytes([kind, flags, 0, 0, 0, stream]) + body,
    st.integers(0, 10),
    st.integers(0, 255),
    st.integers(0, 2),
    st.binary(max_size=40),
)


@given(st.binary(max_size=200))
def test_any_bytes_are_judged(stream: bytes) -> None:
    assert isinstance(parse_response(stream), CaResponse)


@given(st.lists(frames, max_size=8))
def test_any_frames_are_judged(sent: list[bytes]) -> None:
    assert isinstance(parse_response(SETTINGS + b"".join(sent)), CaResponse)
