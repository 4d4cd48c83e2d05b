"""netdiag: names what loses a packet between Docker hosts, and the one command that heals it."""

from importlib import metadata


def version() -> str:
    """The installed version, as its package metadata says it."""
    return metadata.version("netdiag")
