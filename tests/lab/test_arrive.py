"""Frames that arrive without a peer: the kernel judges their destination as it does on the wire."""

from pathlib import Path

REPOSITORY = str(Path(__file__).parents[2])
SEEN = """
import socket
from netdiag.participant.arrive import Arrival
seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
seen.bind(("eth0", 0))
seen.settimeout(5)
arrival = Arrival("eth0")
for destination in (None, bytes.fromhex("02aabbccddee"), b"\\xff" * 6, bytes.fromhex("01005e000001")):
    arrival.send(b"\\x02netdg", 0x0800, bytes(60), destination)
    frame = b""
    while frame[6:12] != b"\\x02netdg":
        frame, origin = seen.recvfrom(100)
    print("own" if frame[:6] == arrival.mac else frame[:6].hex(), origin[2])
"""


def run(host, script, *words):
    return host.exec(["python3", "-c", script, *words], env={"PYTHONPATH": REPOSITORY}).stdout.split("\n")[:-1]


def test_the_kernel_says_whom_a_frame_is_for(pair_lab):
    """PACKET_HOST 0, PACKET_OTHERHOST 3, PACKET_BROADCAST 1, PACKET_MULTICAST 2 (linux/if_packet.h)."""
    assert run(pair_lab.host("one"), SEEN) == ["own 0", "02aabbccddee 3", "ffffffffffff 1", "01005e000001 2"]
