"""What labs have left on this machine: nothing, or it is a failure."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from netdiag.lab import cgroups, state
from netdiag.lab.process import marked


def residue(lab: str | None = None) -> list[str]:
    """Everything on this machine that belongs to a lab (to any lab if None), a line each.

    Processes (and with them the namespaces that they hold), control groups, mounts that can be seen from this process,
    state files, and network interfaces outside the labs' namespaces.
    """
    found = [
        f"process {process.pid} ({_command(process.pid)}) of lab {name}"
        for process, name in marked()
        if lab in {None, name} and process.pid != os.getpid()
    ]
    found += [f"control group {group}" for group in cgroups.lab_groups(lab)]
    found += [f"mount {line}" for line in _mounts() if state.DIRECTORY.name in line and lab is None]
    pattern = "*" if lab is None else f"{lab}.json"
    found += [f"file {path}" for path in sorted(state.DIRECTORY.glob(pattern))]
    return found


class MachineState(dict[str, str]):
    """What of the machine a lab must leave as it is: a text for each aspect."""

    def differences(self, later: MachineState) -> list[str]:
        """Lines that came or went, by aspect."""
        changed = []
        for aspect, text in self.items():
            before, after = set(text.splitlines()), set(later[aspect].splitlines())
            changed += [f"{aspect}: - {line}" for line in sorted(before - after)]
            changed += [f"{aspect}: + {line}" for line in sorted(after - before)]
        return changed


def machine_state() -> MachineState:
    """The machine's links, addresses, routes, packet filters, sysctls, alternatives, units, accounts and mounts."""
    aspects = MachineState()
    for aspect, command in {
        "links": ["ip", "-o", "link"],
        "addresses": ["ip", "-o", "address"],
        "routes": ["ip", "route", "show", "table", "all"],
        "rules": ["ip", "rule"],
    }.items():
        aspects[aspect] = _said(command)
    aspects["ruleset"] = _ruleset()
    aspects["sysctls"] = "\n".join(f"{path}={_read(path)}" for path in _sysctls())
    aspects["modules"] = "\n".join(line.split()[0] for line in _read(Path("/proc/modules")).splitlines())
    for directory in ("/etc/alternatives", "/etc/systemd", "/lib/systemd/system", "/etc/init.d", "/run/systemd/system"):
        aspects[directory] = "\n".join(_listing(Path(directory)))
    for file in ("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/resolv.conf", "/var/lib/dpkg/status"):
        aspects[file] = _read(Path(file))
    aspects["mounts"] = "\n".join(_mounts())
    return aspects


def _ruleset() -> str:
    """All packet filter rules, through whichever tool the machine or the lab's root has."""
    said = [_said(["nft", "list", "ruleset"]), _said(["iptables-legacy-save"]), _said(["ip6tables-legacy-save"])]
    return "\n".join(line for text in said for line in text.splitlines() if not line.startswith("#"))


def _said(command: list[str]) -> str:
    """What a tool prints, the machine's own or the one in the lab's root; empty when neither is there."""
    from netdiag.lab.root import find

    root = find()
    places = (Path("/usr/sbin"), Path("/usr/bin"), root / "usr/sbin", root / "usr/bin")
    tool = next((place / command[0] for place in places if (place / command[0]).exists()), None)
    if tool is None:
        return ""
    libraries = root / "usr/lib" / f"{os.uname().machine}-linux-gnu"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    argv = [str(tool), *command[1:]]
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment).stdout


def _sysctls() -> list[Path]:
    """Settings of the network, and those of the kernel that engines change elsewhere."""
    net = [path for path in Path("/proc/sys/net").rglob("*") if path.is_file()]
    return sorted([*net, *Path("/proc/sys/kernel/keys").glob("*"), Path("/proc/sys/kernel/hostname")])


def _mounts() -> list[str]:
    return [" ".join(line.split()[3:5]) for line in _read(Path("/proc/self/mountinfo")).splitlines()]


def _listing(directory: Path) -> list[str]:
    return sorted(f"{path} -> {path.readlink()}" if path.is_symlink() else str(path) for path in directory.rglob("*"))


def _command(pid: int) -> str:
    return _read(Path(f"/proc/{pid}/cmdline")).replace("\0", " ").strip()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"({error.strerror})"
