"""Rules as they may be written, and what iptables makes of each: the model must read both alike.

    python -m tests.lab.spellings iptables-nft

Run it as root in a network namespace of its own. A rule that iptables refuses must not be understood as another.
"""

import json
import subprocess
import sys

import msgspec

from netdiag.firewall.netfilter import header
from netdiag.firewall.netfilter.iptables import read_iptables

BOTH = """\
-A INPUT -p tcp --dport=010 -j DROP
-A INPUT -p tcp --dport 80 --jump DROP
-A INPUT -p tcp --sport ssh -j DROP
-A INPUT -p 0x6 -j DROP
-A INPUT -p TCP -j DROP
-A INPUT -p 06 -j DROP
-A INPUT -p ip -j DROP
-A INPUT -p ipip -j DROP
-A INPUT -p ipencap -j DROP
-A INPUT ! -p all -j DROP
-A INPUT -m state --state REL,est -j DROP
-A INPUT -m conntrack --ctstate new,INV -j DROP
-A INPUT -m conntrack --ctproto udp --ctdir reply -j DROP
-A INPUT -m addrtype --dst-type loc -j DROP
-A INPUT -p tcp --tcp-flags syn,ack syn -j DROP
-A INPUT -p tcp --tcp-flags ALL NONE -j DROP
-A INPUT -p tcp --tcp-flags SYN ALL -j DROP
-A INPUT -p tcp --sy -j DROP
-A INPUT -p tcp ! --syn
-A INPUT -m length --length 100:50 -j DROP
-A INPUT -m length --length 100: -j DROP
-A INPUT -m tos --tos minimize-delay -j DROP
-A INPUT -m tos --tos 16 -j DROP
-A INPUT -m dscp --dscp-class af11 -j DROP
-A INPUT -m limit --limit 5/m -j DROP
-A INPUT -p tcp -j REJECT --reject-with tcp-r
-A INPUT -j LOG --log-pre "--x" --log-lev debug
-A INPUT -j LOG --log-prefix "-j "
-A INPUT -m comment --comment x"a b" -j DROP
-A INPUT -m comment --comment "a"b -j DROP
-A INPUT -m comment --comment 'a' -j DROP
-A INPUT -m comment --comment "!" -j DROP
-A INPUT -m comment --comment "-j" -j DROP
-A INPUT "-j" "DROP"
-A INPUT --modprobe=/sbin/modprobe -j DROP
-A INPUT -M /sbin/modprobe -j DROP
-A INPUT -t filter -j DROP
-A INPUT -w -j DROP
-A INPUT -m tcp -p tcp --dport 80
-A INPUT -p udp -m udp --dport 80 -m udp --sport 90
-A INPUT -p tcp -m multiport --ports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16
-A INPUT -p tcp -m multiport --dports 80:90,ssh
-A INPUT -p tcp -m tcp -m multiport --dport 80
-A INPUT -p tcp --destination-po 80 -m multiport --dports 90
-A INPUT -p tcp --dport 80-90
-A INPUT -p tcp --dport 90:80
-A INPUT -p tcp --dport 1 --dport 2
-A INPUT -m mark --mark 0x1f/0xf0
-A INPUT -m connmark --mark 1/0x1
-A INPUT -m state --state NEW --state ESTABLISHED
-A INPUT -p tcp -m state --state NEW --dport 22
-A INPUT -p tcp -m state --dport 22 --state NEW
-A U --in-int eth0 --out-i eth1
-A INPUT -j
-A INPUT -j ""
-A INPUT ! -j DROP
-A INPUT -j U
-A INPUT -g U
-A INPUT -j INPUT
-A INPUT -j NOWHERE
-A U -j RETURN
-A INPUT -c 5 6 -j DROP
-A INPUT -c 5,6 -j DROP
-A INPUT -m u32 --u32 "0x0=0x1"
-A INPUT -p esp -m esp --espspi 1:5
-A INPUT -m recent --set --name a --rsource
-A INPUT -m recent --update --seconds 60 --hitcount 4 --name a --rsource -j DROP
-A INPUT -m statistic --mode nth --every 3 --packet 0 -j DROP
-A INPUT -m physdev --physdev-in eth0 ! --physdev-is-bridged -j DROP
-A INPUT -m policy --dir in --pol ipsec --proto esp --mode tunnel -j DROP
-A INPUT -m hashlimit --hashlimit-above 5/sec --hashlimit-mode srcip --hashlimit-name x -j DROP
-A INPUT -m string --string "-j ACCEPT" --algo bm --to 65535 -j DROP
-A INPUT -m pkttype --pkt-type multicast -j DROP
-A INPUT -m mac --mac-source 00:11:22:33:44:55 -j DROP
-A INPUT -p sctp -m sctp --dport 80 -j DROP
-A INPUT -m connlimit --connlimit-above 3 --connlimit-mask 24 -j REJECT
-A INPUT -m time --timestart 08:00 --timestop 18:00 --weekdays Mon,Tue -j DROP
-A INPUT -m helper --helper ftp -j ACCEPT
@mangle -A INPUT -j MARK --set-m 5
@mangle -A INPUT -j MARK --set 5
@mangle -A INPUT -j MARK --set-mark 0x10/0xf0
@mangle -A INPUT -j MARK --and 5
@mangle -A INPUT -j CONNMARK --restore
@mangle -A INPUT -j CONNMARK --save-mark --mask 0xff
@mangle -A INPUT -j CONNMARK --restore-mark --left-shift-mark 8
@mangle -A INPUT -j TOS --set-tos Minimize-Delay
@mangle -A INPUT -j TOS --set-tos 16
@mangle -A INPUT -j TOS --and-tos 0xf0
@mangle -A INPUT -j DSCP --set-dscp-class cs3
@mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp
@mangle -A FORWARD -j CLASSIFY --set-class 1:2
@raw -A PREROUTING -j CT --notrack
@raw -A PREROUTING -p tcp -j TRACE
@nat -A PREROUTING -p tcp -j REDIRECT --to-port 99
@nat -A PREROUTING -p tcp -j REDIRECT --to 99
@nat -A POSTROUTING -j MASQUERADE --random-f
"""
FOUR = """\
-A INPUT -s 10 -j DROP
-A INPUT -s 10.0.0.0/010 -j DROP
-A INPUT -s 010.0.0.1 -j DROP
-A INPUT -s 10.1/16 -j DROP
-A INPUT -s 1.2.3.4,5.6.7.8 -d 9.9.9.9,8.8.8.8 -j DROP
-I INPUT -s 1.2.3.4,5.6.7.8 -j DROP
-A INPUT ! -s 1.2.3.4,5.6.7.8 -j DROP
-A INPUT -s 1.2.3.4/255.0.255.0
-A INPUT -s 1.2.3.4/255.255.0.0
-A INPUT -p tcp --dest 1.2.3.4 -j DROP
-A INPUT -p tcp --dst 1.2.3.4 -j DROP
-A INPUT -d 1.2.3.4 -d 5.6.7.8
-A INPUT -p icmp --icmp-type Echo-Req -j DROP
-A INPUT -p icmp --icmp-type echo -j DROP
-A INPUT -p icmp --icmp-type 255 -j DROP
-A INPUT -p icmp -m icmp ! --icmp-type any
-A INPUT -p icmp --icmp-type 8/0 -j DROP
-A INPUT -j REJECT --reject icmp-host
-A INPUT -j REJECT --reject-with port-unreach
-A INPUT -m iprange --src-range 1.2.3.9-1.2.3.4 -j DROP
-A INPUT -m iprange --src-range 1.2.3.9 -j DROP
-A INPUT -m ttl --ttl 5 -j DROP
-A INPUT -m ttl ! --ttl-lt 5 -j DROP
-A INPUT -m ttl --ttl-lt 0 -j DROP
@raw -A PREROUTING -m rpfilter --loose --invert -j DROP
-A INPUT ! -f -j DROP
@nat -A PREROUTING -p tcp -j DNAT --to 1.2.3.4:99
@nat -A PREROUTING -p tcp -j DNAT --to :99
@nat -A POSTROUTING -j SNAT --to 1.2.3.4
@nat -A POSTROUTING -j SNAT --to-source 1.2.3.4-1.2.3.9
@nat -A PREROUTING -j NETMAP --to 10.0.0.0/24
@mangle -A INPUT -j TTL --ttl-set 7
"""
SIX = """\
-A INPUT -s 2001:DB8::1/64 -j DROP
-A INPUT -s fe80::/10,2001:db8::/32 -j DROP
-A INPUT -s 2001:db8::1/ffff:: -j DROP
-A INPUT -p icmpv6 --icmpv6-type neighbour-sol -j DROP
-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 1/4 -j DROP
-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type echo -j DROP
-A INPUT -j REJECT --reject-with adm-proh
-A INPUT -m hl --hl-eq 255 -j DROP
-A INPUT -m frag --fragid 1 -j DROP
@nat -A PREROUTING -p tcp -j DNAT --to [2001:db8::1]:99
@nat -A PREROUTING -p tcp -j DNAT --to 2001:db8::1
@mangle -A INPUT -j HL --hl-dec 1
"""


def rules(text, table, family):
    """What a text means, conditions that every packet meets left out; and whether any of it was not understood."""
    read = read_iptables(text, family)
    found = [
        (chain.name, sorted(_shown(each) for each in rule.matches if not _is_empty(each)), rule.target)
        for chain in read.tables[table].chains.values()
        for rule in chain.rules
    ]
    return found, [each.said() for each in read.problems]


def _shown(match):
    return f"{type(match).__name__} {msgspec.json.encode(match, order='sorted').decode()}"


def _is_empty(match):
    return isinstance(match, header.Network) and not match.mask and not match.negated


def main():
    tool = sys.argv[1]
    family = 6 if tool.startswith("ip6") else 4
    differ, loaded, refused = [], 0, 0
    for line in (BOTH + (SIX if family == 6 else FOUR)).splitlines():
        table, rule = line[1:].split(" ", 1) if line.startswith("@") else ("filter", line)
        text = f"*{table}\n:U - [0:0]\n{rule}\nCOMMIT\n"
        mine, problems = rules(text, table, family)
        said = subprocess.run([f"{tool}-restore"], input=text, capture_output=True, text=True, check=False)
        if said.returncode:
            refused += 1
            if not problems:
                differ.append(f"{line}: iptables refuses it: {' '.join(said.stderr.split())[:120]}")
            continue
        loaded += 1
        saved = subprocess.run([f"{tool}-save", "-t", table], capture_output=True, text=True, check=True).stdout
        theirs, unread = rules(saved, table, family)
        if problems or unread or mine != theirs:
            differ.append(f"{line}: {problems or mine}, and iptables: {unread or theirs}")
    sys.stdout.write(json.dumps({"differ": differ, "loaded": loaded, "refused": refused}, indent=1) + "\n")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
