"""Frames that arrive without a peer: the kernel judges their destination as it does on the wire."""

from pathlib import Path

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until

REPOSITORY = str(Path(__file__).parents[2])
SEEN = """
import socket, sys
from netdiag.participant.arrive import Arrival
seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
seen.bind(("eth0", 0))
seen.settimeout(5)
arrival = Arrival("eth0", clsact="clsact" in sys.argv)
for destination in (None, bytes.fromhex("02aabbccddee"), b"\\xff" * 6, bytes.fromhex("01005e000001")):
    arrival.send(b"\\x02netdg", 0x0800, bytes(60), destination)
    frame = b""
    while frame[6:12] != b"\\x02netdg":
        frame, origin = seen.recvfrom(100)
    print("own" if frame[:6] == arrival.mac else frame[:6].hex(), origin[2])
"""


def run(host, script, *words):
    return host.exec(["python3", "-c", script, *words], env={"PYTHONPATH": REPOSITORY}).stdout.split("\n")[:-1]


@pytest.mark.parametrize("way", ["tcx", "clsact"])
def test_the_kernel_says_whom_a_frame_is_for(pair_lab, way):
    """PACKET_HOST 0, PACKET_OTHERHOST 3, PACKET_BROADCAST 1, PACKET_MULTICAST 2 (linux/if_packet.h)."""
    assert run(pair_lab.host("one"), SEEN, way) == ["own 0", "02aabbccddee 3", "ffffffffffff 1", "01005e000001 2"]


STAYS = """
import time
from netdiag.participant.arrive import Arrival
arrival = Arrival("eth0", clsact=True)
print("ready", flush=True)
time.sleep(60)
"""


def test_the_older_way_leaves_nothing_either(pair_lab):
    host = pair_lab.host("one")
    with host.popen(["python3", "-c", STAYS], env={"PYTHONPATH": REPOSITORY}) as process:
        assert process.stdout.readline() == "ready\n"
        assert "netdiag-t0" in host.exec(["ip", "-br", "link"]).stdout
        assert "clsact" in host.exec(["tc", "qdisc", "show", "dev", "netdiag-t0"]).stdout
        end_group(process)
    until(lambda: "netdiag" not in host.exec(["ip", "-br", "link"]).stdout, 5, "the device's end")
    assert "clsact" not in host.exec(["tc", "qdisc"]).stdout
