"""Rule sets as ufw, firewalld and fail2ban write them, from the real programs in a lab: files to hold the model to.

    python -m tests.lab.program_rules DIRECTORY
    unshare --net python -m tests.lab.hold_to_kernel --tool nft --packets 300 DIRECTORY/*.save

It takes about half a minute, and the second command wants the lab's tools in the path; so it does not run with the tests.
What it wrote once is among tests/unit/firewall/netfilter/wild, beside what Shorewall and ferm made.
"""

import argparse
import shlex
import sys
from pathlib import Path

from netdiag.lab import Lab, load_topology
from netdiag.lab.process import until

UFW = """\
default deny incoming
default deny routed
limit 22/tcp
allow from 192.0.2.0/24 to any port 2377 proto tcp
deny from 203.0.113.0/24
insert 1 reject in on eth0 from 198.51.100.0/24 to any port 25
allow 6000:6007/udp
allow proto tcp to any port 80,443,8080:8090
route allow in on eth0 out on docker0 to 172.17.0.2 port 80 proto tcp
allow log 7946
deny out to 203.0.113.9
allow proto esp from 192.0.2.7
--force enable
"""
FIREWALLD = """\
--add-port=2377/tcp
--add-source-port=53/udp
--add-forward-port=port=8080:proto=tcp:toport=80:toaddr=172.17.0.2
--add-masquerade
--zone=drop --add-source=203.0.113.0/24
--zone=internal --add-interface=eth1
--add-icmp-block=timestamp-request
--add-protocol=esp
--zone=trusted --add-source=192.0.2.128/25
'--add-rich-rule=rule family=ipv4 source address=198.51.100.0/24 port port=22 protocol=tcp reject'
'--add-rich-rule=rule priority=-5 family=ipv4 source NOT address=10.0.0.0/8 service name=http log prefix=x drop'
"""
JAILS = {
    "sshd": "port = 22,2222",
    "web": "port = http,https\nbanaction = iptables-multiport\nblocktype = DROP",
    "all": "banaction = iptables-allports",
    "sets": "port = 25\nbanaction = iptables-ipset-proto6",
    "seen": "banaction = iptables-xt_recent-echo",
}


def saved(host, directory, name):
    for family in ("iptables", "ip6tables"):
        text = host.exec([f"{family}-nft-save"]).stdout
        sets = host.exec(["ipset", "save"], check=False).stdout if family == "iptables" else ""
        file = directory / f"{name}_{family}.save"
        file.write_text(text + sets)
        sys.stdout.write(f"{file}: {text.count('-A ')} rules\n")


def ufw(host):
    for line in UFW.splitlines():
        host.exec(["ufw", *line.split()])


def firewalld(host):
    """With the backend that writes iptables' rules; it starts with empty tables."""
    host.exec(["sed", "-i", "s/^FirewallBackend=.*/FirewallBackend=iptables/", "/etc/firewalld/firewalld.conf"])
    host.exec(["dbus-daemon", "--system", "--fork"])
    host.exec(["firewalld"])
    until(lambda: host.exec(["firewall-cmd", "--state"], check=False).returncode == 0, 20.0, "firewalld")
    for line in FIREWALLD.splitlines():
        host.exec(["firewall-cmd", *shlex.split(line)])


def fail2ban(host):
    host.exec(["touch", "/var/log/logins.log"])
    common = "enabled = true\nfilter = sshd\nbackend = polling\nlogpath = /var/log/logins.log\n"
    text = "\n".join(f"[{jail}]\n{common}{more}\n" for jail, more in JAILS.items())
    host.exec(["tee", "/etc/fail2ban/jail.d/lab.local"], stdin=text)
    host.exec(["fail2ban-client", "start"])
    for number, jail in enumerate(JAILS):
        host.exec(["fail2ban-client", "set", jail, "banip", f"203.0.113.{number}"])
        banned = ["fail2ban-client", "get", jail, "banip"]
        until(lambda banned=banned: host.exec(banned, check=False).stdout.strip() != "", 10.0, f"the ban of {jail}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    directory.mkdir(exist_ok=True)
    for number, program in enumerate((ufw, firewalld, fail2ban)):
        with Lab.up(load_topology("pair"), name=f"programs-{number}") as lab:
            program(lab.host("one"))
            saved(lab.host("one"), directory, program.__name__)


if __name__ == "__main__":
    main()
