"""Faults of programs that own packet filters: firewalld, ufw and fail2ban, the real ones, as Debian packages them."""

from __future__ import annotations

import shlex

from netdiag.errors import LabError, UsageError
from netdiag.lab.faults import HOST, Fault, Kind, Parameter, Values, Work
from netdiag.lab.process import until
from netdiag.lab.state import Step, StepKind

_NO_RULES = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"
_UFW = "/etc/ufw"
_UFW_FILES = tuple(f"{_UFW}/{name}" for name in ("ufw.conf", "user.rules", "user6.rules"))
_UFW_POLICY = "/etc/default/ufw"
_JAILS = "/etc/fail2ban/jail.d/lab.local"
_BAN_LOG = "/var/log/lab-logins.log"


def _firewalld(work: Work, values: Values) -> None:
    """On a message bus of the host's own. Starting it flushes iptables, the engine's rules included, as on any host."""
    host = values["host"]
    if work.site.host(host).path("/run/firewalld.pid").exists():
        raise LabError(f"firewalld runs on {host} already")
    saved = work.run(host, ["iptables-save"]).stdout
    work.on_undo(Step(host=host, argv=("iptables-restore", "-w"), stdin=saved))
    bus, daemon = "/run/dbus/pid", "/run/firewalld.pid"
    for pidfile, start in ((bus, ["dbus-daemon", "--system", "--fork"]), (daemon, ["firewalld"])):
        work.on_undo(Step(host=host, kind=StepKind.STOP_DAEMON, argv=(pidfile,)))
        work.run(host, start)
    asked = ["firewall-cmd", "--state"]
    until(lambda: work.site.host(host).exec(asked, check=False).returncode == 0, 20.0, f"firewalld of {host}")
    for port in values["ports"].split(",") if "ports" in values else ():
        work.run(host, ["firewall-cmd", "-q", f"--add-port={port}"])


def _ufw(work: Work, values: Values) -> None:
    """Enabled with rules of its own; what it leaves behind when it is disabled (empty chains) goes with the undo."""
    host = values["host"]
    if "ENABLED=yes" in work.run(host, ["cat", _UFW_FILES[0]]).stdout:
        raise LabError(f"ufw is enabled on {host} already")
    for family in ("iptables", "ip6tables"):
        saved = work.run(host, [f"{family}-save", "-t", "filter"]).stdout
        restore = (f"{family}-restore", "-w", "-T", "filter")
        work.on_undo(Step(host=host, argv=restore, stdin=saved if "*filter" in saved else _NO_RULES))
    for path in (*_UFW_FILES, _UFW_POLICY):
        work.on_undo(Step(host=host, argv=("tee", path), stdin=work.run(host, ["cat", path]).stdout))
    # Enabling it sets kernel settings, which disabling it keeps.
    for line in work.run(host, ["cat", f"{_UFW}/sysctl.conf"]).stdout.splitlines():
        if line.strip() and not line.startswith("#"):
            key = line.partition("=")[0].strip()
            before = work.run(host, ["sysctl", "-n", key]).stdout.strip()
            work.on_undo(Step(host=host, argv=("sysctl", "-qw", f"{key.replace('/', '.')}={before}")))
    work.on_undo(Step(host=host, argv=("ufw", "--force", "disable")))
    work.run(host, ["ufw", "default", values["incoming"], "incoming"])
    for rule in values.get("rules", "").split(";"):
        if rule.strip():
            work.run(host, ["ufw", *shlex.split(rule)])
    work.run(host, ["ufw", "--force", "enable"])


def _fail2ban(work: Work, values: Values) -> None:
    """One jail, and one address that is in it."""
    host, jail = values["host"], values["jail"]
    if not jail.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"jail={jail}: letters, digits, - and _")
    if work.site.host(host).path("/run/fail2ban/fail2ban.pid").exists():
        raise LabError(f"fail2ban runs on {host} already")
    words = {"enabled": "true", "filter": "sshd", "backend": "polling", "logpath": _BAN_LOG, "port": values["port"]}
    if "action" in values:
        words["banaction"] = values["action"]
    section = "\n".join([f"[{jail}]", *(f"{key} = {value}" for key, value in words.items())])
    # Debian's package enables that jail for a log that a lab host does not have.
    others = "" if jail == "sshd" else "[sshd]\nenabled = false\n"
    work.run(host, ["touch", _BAN_LOG], undo=["rm", "-f", _BAN_LOG])
    work.run(host, ["tee", _JAILS], stdin=f"{others}{section}\n", undo=["rm", "-f", _JAILS])
    work.on_undo(Step(host=host, argv=("rm", "-f", "/var/lib/fail2ban/fail2ban.sqlite3", "/var/log/fail2ban.log")))
    # It takes its rules with it when it ends.
    work.on_undo(Step(host=host, kind=StepKind.STOP_DAEMON, argv=("/run/fail2ban/fail2ban.pid",)))
    work.run(host, ["fail2ban-client", "start"])
    work.run(host, ["fail2ban-client", "set", jail, "banip", values["address"]])
    asked = ["fail2ban-client", "status", jail]
    until(lambda: values["address"] in work.site.host(host).exec(asked).stdout, 10.0, f"the ban on {host}")


FAULTS = (
    Fault(
        "firewalld",
        "A real firewalld as packaged: it lets in ssh and little else, and its start flushes iptables.",
        (HOST, Parameter("ports", Kind.TEXT, "opened in its default zone, not permanently: 2377/tcp,4789/udp")),
        _firewalld,
        "host=worker ports=2377/tcp",
    ),
    Fault(
        "ufw",
        "A real ufw as packaged, enabled: it lets in what its rules say, and its policies drop the rest.",
        (
            HOST,
            Parameter("rules", Kind.TEXT, 'its commands, with semicolons: "allow 2377/tcp; deny 22"'),
            Parameter(
                "incoming", Kind.CHOICE, "its default for what arrives", "deny", choices=("allow", "deny", "reject")
            ),
        ),
        _ufw,
        'host=worker rules="allow 7946; deny 9000/tcp"',
    ),
    Fault(
        "fail2ban",
        "A real fail2ban with one jail, in which an address is banned.",
        (
            HOST,
            Parameter("address", Kind.ADDRESS, "who is banned", required=True),
            Parameter("jail", Kind.TEXT, "the jail's name", default="sshd"),
            Parameter("port", Kind.TEXT, "the ports that it is banned from", default="ssh"),
            Parameter("action", Kind.TEXT, "how it bans, an action of fail2ban  [its package's own]"),
        ),
        _fail2ban,
        "host=worker address=10.71.0.1",
    ),
)
