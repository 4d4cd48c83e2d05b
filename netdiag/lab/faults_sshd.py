"""A real sshd on a host, and keys with which the other hosts' root may log in."""

from __future__ import annotations

from netdiag.errors import LabError
from netdiag.lab.faults import HOST, Fault, Values, Work
from netdiag.lab.host import Host
from netdiag.lab.process import until
from netdiag.lab.state import Step, StepKind

PIDFILE = "/run/sshd.pid"
_ETC = "/etc/ssh"
_PACKAGED = "/usr/share/openssh/sshd_config"
_HOST_KEY = f"{_ETC}/ssh_host_ed25519_key"
_ADMITTED = f"{_ETC}/lab_authorized_keys"
# No PAM: its session modules ask for a system bus and for kernel keys, which are the machine's. UsePAM is set before
# the packaged file sets it, and the first value counts.
_SETTINGS = f"UsePAM no\nPidFile {PIDFILE}\nAuthorizedKeysFile .ssh/authorized_keys {_ADMITTED}\n"


def _sshd(work: Work, values: Values) -> None:
    """The package's own configuration; one key for all clients of this server, so that its undo is nobody else's."""
    server = work.site.host(values["host"])
    if server.daemon(PIDFILE) is not None:
        raise LabError(f"sshd runs on {server.name} already")
    settings = f"{_ETC}/sshd_config.d/lab.conf"
    work.run(server.name, ["cp", _PACKAGED, f"{_ETC}/sshd_config"], undo=["rm", "-f", f"{_ETC}/sshd_config"])
    work.run(server.name, ["tee", settings], stdin=_SETTINGS, undo=["rm", "-f", settings])
    work.run(server.name, _keygen(_HOST_KEY), undo=["rm", "-f", _HOST_KEY, f"{_HOST_KEY}.pub"])
    public = " ".join(server.path(f"{_HOST_KEY}.pub").read_text("utf-8").split()[:2])
    admitted = [
        _admit(work, server, client, public) for client in work.site.hosts.values() if client.name != server.name
    ]
    work.run(server.name, ["tee", _ADMITTED], stdin="".join(admitted), undo=["rm", "-f", _ADMITTED])
    work.on_undo(Step(host=server.name, kind=StepKind.STOP_DAEMON, argv=(PIDFILE,)))
    work.run(server.name, ["/usr/sbin/sshd"])
    until(lambda: server.daemon(PIDFILE) is not None, 10.0, f"sshd of {server.name}")


def _admit(work: Work, server: Host, client: Host, host_key: str) -> str:
    """Give a client a key and the server's, both in files of this server's own; returns the client's public key."""
    key = f"/root/.ssh/lab_{server.name}"
    known = f"{_ETC}/lab_{server.name}.known_hosts"
    configuration = f"{_ETC}/ssh_config.d/lab_{server.name}.conf"
    addresses = [str(uplink.address.ip) for uplink in server.uplinks]
    text = (
        f"Match originalhost {','.join([server.name, *addresses])}\n"
        f"  IdentityFile {key}\n  UserKnownHostsFile ~/.ssh/known_hosts {known}\n"
        f"Host {server.name}\n  HostName {server.address}\n"
    )
    work.run(client.name, ["mkdir", "-p", "-m", "700", "/root/.ssh"])
    work.run(client.name, _keygen(key), undo=["rm", "-f", key, f"{key}.pub"])
    names = ",".join([server.name, *addresses])
    work.run(client.name, ["tee", known], stdin=f"{names} {host_key}\n", undo=["rm", "-f", known])
    work.run(client.name, ["tee", configuration], stdin=text, undo=["rm", "-f", configuration])
    return client.path(f"{key}.pub").read_text("utf-8")


def _keygen(path: str) -> list[str]:
    return ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path]


FAULTS = (
    Fault(
        "sshd",
        "No fault, but a real sshd as packaged, into which root of every other host may log in with a key.",
        (HOST,),
        _sshd,
        "host=worker",
    ),
)
