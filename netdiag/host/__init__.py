"""The door to this machine: runs the participant in this process, and drives readings over any carrier."""

from netdiag.host.drive import Carrier, Driven, Recorder, Replay, drive, drive_all
from netdiag.host.local import LocalHost

__all__ = ["Carrier", "Driven", "LocalHost", "Recorder", "Replay", "drive", "drive_all"]
