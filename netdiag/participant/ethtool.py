"""The verb that asks a NIC's driver for its name and offloads, by the ethtool ioctl (include/uapi/linux/ethtool.h)."""

import array
import fcntl
import socket
import struct
from typing import Any, Dict, List, Optional

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import MISSING, VerbError, from_os_error
from netdiag.participant.netns import in_netns, namespace_of

SIOCETHTOOL = 0x8946
ETHTOOL_GDRVINFO, ETHTOOL_GSTRINGS, ETHTOOL_GSSET_INFO, ETHTOOL_GFEATURES = 0x03, 0x1B, 0x37, 0x3A
ETH_SS_FEATURES = 4
STRING_BYTES = 32


def ethtool(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """A device's driver and its features.

    Parameters: ``device``, ``netns``. Data: ``driver``, ``driver_version``, ``firmware``, ``bus`` (text, may be empty);
    ``features``: the kernel's feature name (tx-checksum-ip-generic, tx-udp_tnl-segmentation …) -> active (bool).
    Errors: missing (no such device), unsupported (the device says neither), permission.
    """
    device = str(params["device"])
    return in_netns(namespace_of(params), lambda: _ask(device), deadline)


def _ask(device: str) -> Dict[str, Any]:
    tried = "ethtool " + device
    # The ioctl for a device that does not exist would load a module named netdev-NAME; /proc never does.
    if device not in devices():
        raise VerbError(MISSING, tried + ": no such device")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        refusal: Optional[OSError] = None
        try:
            info = _ioctl(sock, device, struct.pack("=I", ETHTOOL_GDRVINFO) + b"\0" * 192)
        except OSError as error:
            info, refusal = b"\0" * 196, error
        words = [info[start : start + 32].split(b"\0")[0].decode("utf-8", "replace") for start in (4, 36, 68, 100)]
        try:
            features = _features(sock, device)
        except OSError:
            features = {}
    if refusal is not None and not features:
        raise from_os_error(refusal, tried)
    return {
        "driver": words[0],
        "driver_version": words[1],
        "firmware": words[2],
        "bus": words[3],
        "features": features,
    }


def devices() -> List[str]:
    """The names of all devices in the calling thread's namespace."""
    with open("/proc/thread-self/net/dev", "rb") as file:
        lines = file.read().decode("utf-8", "replace").splitlines()[2:]
    return [line.rpartition(":")[0].strip() for line in lines]


def _ioctl(sock: socket.socket, device: str, command: bytes) -> bytes:
    buffer = array.array("B", command)
    address, _ = buffer.buffer_info()
    request = struct.pack("16sP", device.encode("utf-8"), address)
    fcntl.ioctl(sock.fileno(), SIOCETHTOOL, request + b"\0" * 16)
    return buffer.tobytes()


def _features(sock: socket.socket, device: str) -> Dict[str, bool]:
    counted = _ioctl(sock, device, struct.pack("=IIQI", ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0))
    mask, count = struct.unpack_from("=QI", counted, 8)
    if not mask:
        return {}
    strings = _ioctl(
        sock, device, struct.pack("=III", ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count) + b"\0" * (count * STRING_BYTES)
    )
    blocks = (count + 31) // 32
    bits = _ioctl(sock, device, struct.pack("=II", ETHTOOL_GFEATURES, blocks) + b"\0" * (blocks * 16))
    features: Dict[str, bool] = {}
    for index in range(count):
        start = 12 + index * STRING_BYTES
        name = strings[start : start + STRING_BYTES].split(b"\0")[0].decode("ascii", "replace")
        # A block is four words: available, requested, active, never_changed.
        active = struct.unpack_from("=I", bits, 8 + (index // 32) * 16 + 8)[0]
        if name:
            features[name] = bool(active >> (index % 32) & 1)
    return features
