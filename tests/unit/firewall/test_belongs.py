"""Rules as iptables-save and nft printed them in the lab (20.10.24, firewalld 1.3, ufw 0.36), or as generated in the
engine's own documentation (28 and 29), in Calico's and kube-proxy's published dumps."""

import pytest

from netdiag.firewall.owner import attribute
from tests.unit.firewall.hosts import HOST, calico, nft, rule

IPTABLES = [
    # The engine's networks.
    ("-A FORWARD -i br-ca280fabf39f ! -o br-ca280fabf39f -j ACCEPT", "docker", "network app_default"),
    ("-A FORWARD -i shop0 -o shop0 -j ACCEPT", "docker", "network shop, traffic between its containers"),
    (
        "-A FORWARD -i docker_gwbridge -o docker_gwbridge -j DROP",
        "docker",
        "network docker_gwbridge, traffic between its containers",
    ),
    ("-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "docker", "network bridge"),
    ("-A FORWARD -o docker0 -j DOCKER", "docker", "network bridge"),
    ("-A FORWARD -j DOCKER-USER", "docker", ""),
    ("-A DOCKER-USER -j RETURN", "docker", ""),
    ("-A DOCKER ! -i br-ca280fabf39f -o br-ca280fabf39f -j DROP", "docker", "network app_default, unpublished ports"),
    (
        "-A DOCKER -d 172.19.0.2/32 ! -i br-ca280fabf39f -o br-ca280fabf39f -p tcp -m tcp --dport 80 -j ACCEPT",
        "docker",
        "published port 8080/tcp of container web",
    ),
    (
        "-A DOCKER -d 172.19.0.2/32 ! -i br-ca280fabf39f -o br-ca280fabf39f -p tcp -m tcp --dport 81 -j ACCEPT",
        "docker",
        "port 81/tcp of container web",
    ),
    (
        "-A DOCKER ! -i br-ca280fabf39f -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.19.0.2:80",
        "docker",
        "published port 8080/tcp of container web",
    ),
    (
        "-A DOCKER -d 127.0.0.1/32 ! -i br-ca280fabf39f -p udp -m udp --dport 9053 -j DNAT --to-destination 172.19.0.2:53",
        "docker",
        "published port 127.0.0.1:9053/udp of container web",
    ),
    (
        "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 81 -j DNAT --to-destination 172.17.0.9:80",
        "docker",
        "published port 81/tcp (to 172.17.0.9:80)",
    ),
    (
        "-A DOCKER-ISOLATION-STAGE-1 ! -s 172.20.0.0/16 -o br-36c4252be587 -j DROP",
        "docker",
        "network closed, isolation",
    ),
    ("-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP", "docker", "network bridge, isolation"),
    ("-A DOCKER-ISOLATION-STAGE-1 -j RETURN", "docker", "isolation between networks"),
    ("-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "docker", "network bridge"),
    ("-A DOCKER-BRIDGE -o br-ca280fabf39f -j DOCKER", "docker", "network app_default"),
    ("-A DOCKER-INTERNAL ! -s 172.20.0.0/16 -o br-36c4252be587 -j DROP", "docker", "network closed, internal"),
    ("-A DOCKER-FORWARD -i docker0 -j ACCEPT", "docker", "network bridge"),
    (
        "-A FORWARD -i br-0123456789ab ! -o br-0123456789ab -j ACCEPT",
        "docker",
        "network 0123456789ab, which the engine does not have",
    ),
    ("-A POSTROUTING -s 10.99.7.0/24 ! -o shop0 -j MASQUERADE", "docker", "network shop, masquerading"),
    (
        "-A POSTROUTING -s 172.19.0.2/32 -d 172.19.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE",
        "docker",
        "published port 8080/tcp of container web",
    ),
    (
        "-A PREROUTING -d 172.19.0.2/32 ! -i br-ca280fabf39f -j DROP",
        "docker",
        "direct access from outside to container web",
    ),
    (
        "-A PREROUTING -d 127.0.0.1/32 ! -i lo -p udp -m udp --dport 9053 -j DROP",
        "docker",
        "published port 127.0.0.1:9053/udp of container web",
    ),
    (
        "-A DOCKER-FORWARD -m set --match-set docker-ext-bridges-v4 dst -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "docker",
        "",
    ),
    # What names the engine's things and is not the engine's.
    ("-A FORWARD -i docker0 -j DROP", "operator", ""),
    ("-A FORWARD -i docker0 -o eth0 -j DROP", "operator", ""),
    ("-A FORWARD -i docker0 ! -o docker0 -p tcp -j ACCEPT", "operator", ""),
    ('-A FORWARD -i docker0 ! -o docker0 -m comment --comment "let docker out" -j ACCEPT', "operator", ""),
    ('-A INPUT -p tcp -m comment --comment "docker swarm: br-ca280fabf39f" -j DROP', "operator", ""),
    ('-A INPUT -m comment --comment "-j DOCKER" -j DROP', "operator", ""),
    ("-A FORWARD -i virbr0 ! -o virbr0 -j ACCEPT", "operator", ""),
    ("-A POSTROUTING -s 192.168.7.0/24 ! -o virbr0 -j MASQUERADE", "operator", ""),
    ("-A PREROUTING -d 127.0.0.1/32 ! -i lo -p tcp -m tcp --dport 5432 -j DROP", "operator", ""),
    ("-A DOCKER -s 203.0.113.7/32 -j DROP", "operator", ""),
    ("-A DOCKER -o docker0 -p tcp -m tcp --dport 80 -j DROP", "operator", ""),
    ("-A DOCKER -s 203.0.113.7/32 -j ACCEPT", "operator", ""),
    ("-A DOCKER-ISOLATION-STAGE-1 -j DROP", "operator", ""),
    ('-A DOCKER ! -i docker0 -o docker0 -m comment --comment "mine" -j DROP', "operator", ""),
    ("-A DOCKER-USER -i eth0 -p tcp -m tcp --dport 8080 -j DROP", "operator", ""),
    ("-A INPUT -j DOCKER-USER", "operator", ""),
    ("-A DOCKERS -j DROP", "operator", ""),
    # Swarm mode.
    ("-A DOCKER-INGRESS -p tcp -m tcp --dport 8443 -j ACCEPT", "swarm", "published port 8443/tcp of service mesh"),
    (
        "-A DOCKER-INGRESS -p tcp -m tcp --sport 8443 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "swarm",
        "published port 8443/tcp of service mesh",
    ),
    (
        "-A DOCKER-INGRESS -p tcp -m tcp --dport 99 -j DNAT --to-destination 172.18.0.2:99",
        "swarm",
        "published port 99/tcp",
    ),
    ("-A DOCKER-INGRESS -j RETURN", "swarm", "routing mesh"),
    ("-A FORWARD -j DOCKER-INGRESS", "swarm", "routing mesh"),
    ("-A DOCKER-INGRESS -s 203.0.113.7/32 -j DROP", "operator", ""),
    (
        '-A INPUT -p udp -m policy --dir in --pol none -m udp --dport 4789 -m u32 --u32 "0x0>>0x16&0x3c@0xc&0xffffff00=0x100100" -j DROP',
        "swarm",
        "encrypted network secret",
    ),
    (
        (
            '-A OUTPUT -p udp -m udp --dport 4789 -m bpf --bytecode "7,32 0 0 4294963252,7 0 0 0,64 0 0 4,116 0 0 8,21 1 0 4098,6 0 0 0,6 0 0 4294967295"'
            " -j MARK --set-xmark 0xd0c4e3/0xffffffff"
        ),
        "swarm",
        "encrypted network with VNI 4098",
    ),
    ("-A INPUT -p udp -m policy --dir in --pol none -m udp --dport 4789 -j DROP", "operator", ""),
    ('-A OUTPUT -p udp -m u32 --u32 "0x0>>0x16&0x3c@0xc&0xffffff00=0x100100" -j DROP', "operator", ""),
    # Calico.
    ('-A INPUT -m comment --comment "cali:Cz_u1IQiXIMmKD4c" -j cali-INPUT', "calico", ""),
    (
        (
            '-A cali-tw-cali5125b8e5d77 -m comment --comment "cali:6b_y1gnlt2WO7muw"'
            ' -m comment --comment "Drop if no profiles matched" -j DROP'
        ),
        "calico",
        "workload cali5125b8e5d77, to it, no profile matched",
    ),
    (
        '-A cali-fw-cali5125b8e5d77 -m comment --comment "cali:PYEqgsq3qaoejnWB" -m conntrack --ctstate INVALID -j DROP',
        "calico",
        "workload cali5125b8e5d77, from it",
    ),
    ('-A cali-pri-kns.default -m comment --comment "cali:x" -j DROP', "calico", "profile kns.default, incoming"),
    ("-A cali-po-default.deny -j DROP", "calico", "policy default.deny, outgoing"),
    (
        (
            '-A cali-pri-_CVSZITRyIpEmH8AB6H -m comment --comment "cali:Jm7TmoNoWplOEka1"'
            ' -m comment --comment "Profile ksa.kube-system.metrics-server ingress"'
        ),
        "calico",
        "profile ksa.kube-system.metrics-server, incoming",
    ),
    ("-A cali-pri-_CVSZITRyIpEmH8AB6H -j DROP", "calico", "profile with hash CVSZITRyIpEmH8AB6H, incoming"),
    ("-A cali-fh-eth0 -j DROP", "calico", "host endpoint eth0, from it"),
    ("-A cali-wl-to-host -j DROP", "calico", "traffic of workloads to this host"),
    ('-A INPUT -m comment --comment "cali: mine" -j DROP', "operator", ""),
    # firewalld's iptables backend.
    ("-A IN_public_deny -s 10.71.0.9/32 -p tcp -m tcp --dport 7946 -j DROP", "firewalld", "zone public"),
    ("-A IN_public -j REJECT --reject-with icmp-port-unreachable", "firewalld", "zone public, its target"),
    ("-A INPUT_ZONES -g IN_public", "firewalld", "zone public"),
    ("-A INPUT_POLICIES_pre -s 10.5.0.0/24 -j IN_shut", "firewalld", "policy shut"),
    ("-A IN_allow-host-ipv6 -j IN_allow-host-ipv6_pre", "firewalld", "policy allow-host-ipv6"),
    ("-A INPUT_direct -p tcp -m tcp --dport 9999 -j DROP", "firewalld", "direct rules"),
    ("-A INPUT -j INPUT_ZONES", "firewalld", ""),
    ("-A INPUT -j REJECT --reject-with icmp-host-prohibited", "operator", ""),
    ("-A IN_web -j DROP", "operator", ""),
    ("-A IN_web_deny -j DROP", "firewalld", "zone or policy web"),
    # ufw.
    ("-A ufw-user-input -s 10.71.0.9/32 -p tcp -m tcp --dport 7946 -j DROP", "ufw", "user rule, incoming"),
    ("-A ufw6-user-forward -p tcp -m tcp --dport 81 -j DROP", "ufw", "user rule, routed"),
    ("-A ufw-user-output -p tcp -m tcp --dport 25 -j DROP", "ufw", "user rule, outgoing"),
    ("-A ufw-user-limit -j REJECT --reject-with icmp-port-unreachable", "ufw", "limit rule"),
    ("-A ufw-before-input -m conntrack --ctstate INVALID -j DROP", "ufw", "before.rules, incoming"),
    ("-A ufw6-before-input -m conntrack --ctstate INVALID -j DROP", "ufw", "before6.rules, incoming"),
    ("-A ufw-not-local -j DROP", "ufw", "before.rules, not for this host"),
    ("-A ufw-skip-to-policy-input -j DROP", "ufw", "default policy, incoming"),
    ("-A INPUT -j ufw-before-input", "ufw", "before.rules, incoming"),
    ('-A INPUT -p tcp -m comment --comment "like ufw-user-input" -j DROP', "operator", ""),
    # Others.
    (
        (
            '-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment "kube-system/kube-dns:dns cluster IP" -m udp'
            " --dport 53 -j KUBE-SVC-TCOU7JCQXEZGVUNU"
        ),
        "kube",
        "service kube-system/kube-dns:dns",
    ),
    (
        '-A KUBE-SERVICES -d 10.96.9.9/32 -m comment --comment "default/web has no endpoints" -j REJECT',
        "kube",
        "service default/web",
    ),
    ('-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING', "kube", ""),
    ('-A INPUT -m comment --comment "kubernetes goes here" -j DROP', "operator", ""),
    ("-A f2b-sshd -s 203.0.113.7/32 -j REJECT --reject-with icmp-port-unreachable", "fail2ban", "jail sshd"),
    ("-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd", "fail2ban", "jail sshd"),
    ("-A INPUT_direct -p tcp -m set --match-set f2b-sshd src -j REJECT", "fail2ban", "jail sshd"),
    ("-A DOCKER-USER -p tcp -m multiport --dports 80 -j f2b-web", "fail2ban", "jail web"),
    (
        (
            "-A NETAVARK-HOSTPORT-DNAT -p tcp -m tcp --dport 8080 -m comment --comment"
            ' "dnat name: podman id: 8fd7accef563107a4971be4f1058880d45f0f9d5ff89a773f4a77f65fb91441b" -j NETAVARK-DN-1D8721804F16F'
        ),
        "podman",
        "network podman, container 8fd7accef563",
    ),
    ("-A LIBVIRT_FWI -o virbr0 -j REJECT --reject-with icmp-port-unreachable", "libvirt", "network on bridge virbr0"),
]


@pytest.mark.parametrize(("text", "owner", "belongs"), IPTABLES, ids=[case[0][3:] for case in IPTABLES])
def test_a_rule_of_iptables(text, owner, belongs):
    found = attribute(rule(text), (), HOST)
    assert (found.owner.value, found.belongs_to) == (owner, belongs)
    assert found.text == text


NFT = [
    ("firewalld", "filter_IN_public_deny", "ip saddr 10.71.0.9 tcp dport 7946 drop", "firewalld", "zone public"),
    ("firewalld", "filter_IN_public", "reject with icmpx admin-prohibited", "firewalld", "zone public, its target"),
    ("firewalld", "filter_IN_policy_shut", "drop", "firewalld", "policy shut, its target"),
    ("firewalld", "filter_IN_policy_allow-host-ipv6_allow", "accept", "firewalld", "policy allow-host-ipv6"),
    ("firewalld", "nat_POST_internal_allow", "masquerade", "firewalld", "zone internal"),
    ("firewalld", "filter_INPUT_ZONES", "ip saddr 10.5.0.0/24 goto filter_IN_internal", "firewalld", "zone internal"),
    ("firewalld", "filter_INPUT_POLICIES_pre", "jump filter_IN_policy_shut", "firewalld", "policy shut"),
    ("firewalld", "filter_INPUT", "reject with icmpx admin-prohibited", "firewalld", "no zone lets it in"),
    (
        "firewalld",
        "filter_FORWARD",
        "reject with icmpx admin-prohibited",
        "firewalld",
        "no zone or policy lets it through",
    ),
    ("firewalld", "filter_INPUT", "ct state invalid drop", "firewalld", ""),
    (
        "docker-bridges",
        "filter-forward-in__br-ca280fabf39f",
        'counter drop comment "UNPUBLISHED PORT DROP"',
        "docker",
        "network app_default, unpublished ports",
    ),
    (
        "docker-bridges",
        "filter-forward-in__shop0",
        'iifname "shop0" counter accept comment "ICC"',
        "docker",
        "network shop, traffic between its containers",
    ),
    (
        "docker-bridges",
        "filter-forward-in__br-ca280fabf39f",
        "ip daddr 172.19.0.2 tcp dport 80 counter packets 3 bytes 5 accept",
        "docker",
        "published port 8080/tcp of container web",
    ),
    (
        "docker-bridges",
        "raw-PREROUTING",
        'ip daddr 172.19.0.2 iifname != "br-ca280fabf39f" counter drop comment "DROP DIRECT ACCESS"',
        "docker",
        "direct access from outside to container web",
    ),
    (
        "docker-bridges",
        "nat-prerouting-and-output",
        'iifname != "br-ca280fabf39f" tcp dport 8080 counter dnat to 172.19.0.2:80 comment "DNAT"',
        "docker",
        "published port 8080/tcp of container web",
    ),
    (
        "docker-bridges",
        "nat-postrouting-out__docker0",
        'oifname != "docker0" ip saddr 172.17.0.0/16 counter masquerade comment "MASQUERADE"',
        "docker",
        "network bridge, masquerading",
    ),
    (
        "docker-overlay",
        "enc-in",
        "meta secpath missing udp dport 4789 @th,96,24 @encrypted-vnis counter drop",
        "swarm",
        "encrypted networks",
    ),
    (
        "calico",
        "filter-cali-tw-cali5125b8e5d77",
        'counter drop comment "cali:6b_y1gnlt2WO7muw"',
        "calico",
        "workload cali5125b8e5d77, to it",
    ),
    (
        "kube-proxy",
        "service-NWBZK7IH-kube-system/kube-dns/tcp/dns-tcp",
        "drop",
        "kube",
        "service kube-system/kube-dns:dns-tcp",
    ),
    (
        "f2b-table",
        "f2b-chain",
        "tcp dport 22 ip saddr @addr-set-sshd reject with icmp port-unreachable",
        "fail2ban",
        "jail sshd",
    ),
    ("libvirt_network", "guest_input", 'oifname "virbr0" counter reject', "libvirt", "network on bridge virbr0"),
    ("mine", "filter_IN_public", "drop", "operator", ""),
    ("mine", "DOCKER", 'oifname "docker0" drop comment "docker"', "operator", ""),
    ("mine", "FORWARD", 'iifname "docker0" oifname != "docker0" accept', "operator", ""),
    ("firewalld2", "filter_INPUT", "reject", "operator", ""),
]


@pytest.mark.parametrize(("table", "chain", "text", "owner", "belongs"), NFT)
def test_a_rule_of_nft(table, chain, text, owner, belongs):
    found = attribute(nft(table, chain, text), (), HOST)
    assert (found.owner.value, found.belongs_to) == (owner, belongs)


SANDBOX = [
    ("ingress", "mangle", "-A PREROUTING -p tcp -m tcp --dport 8443 -j MARK --set-xmark 0x100/0xffffffff", "swarm", "published port 8443/tcp of service mesh"),
    ("lb:secret", "mangle", "-A INPUT -d 10.0.0.3/32 -j MARK --set-xmark 0x101/0xffffffff", "swarm", "service mesh"),
    ("lb:secret", "nat", "-A POSTROUTING -d 10.0.1.0/24 -m ipvs --ipvs -j SNAT --to-source 10.0.1.3", "swarm", "network secret"),
    ("container:mesh.1.imc8hx7", "filter", "-A INPUT -d 10.0.0.4/32 -p tcp -j DROP", "swarm", "ingress network, only published ports of service mesh"),
    ("container:mesh.1.imc8hx7", "nat", "-A PREROUTING -d 10.0.0.4/32 -p tcp -m tcp --dport 8443 -j REDIRECT --to-ports 443", "swarm", "published port 8443/tcp of service mesh"),
    ("container:web", "nat", "-A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT", "docker", "name server of containers"),
    ("container:web", "filter", "-A INPUT -d 172.19.0.2/32 -p tcp -j DROP", "operator", ""),
    ("container:mesh.1.imc8hx7", "filter", "-A INPUT -p tcp -j DROP", "operator", ""),
    ("container:mesh.1.imc8hx7", "filter", "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT", "operator", ""),
    ("lb:secret", "filter", "-A INPUT -d 10.0.0.3/32 -j DROP", "operator", ""),
]  # fmt: skip


@pytest.mark.parametrize(("namespace", "table", "text", "owner", "belongs"), SANDBOX)
def test_a_rule_in_a_namespace_of_the_engine(namespace, table, text, owner, belongs):
    found = attribute(rule(text, table=table, namespace=namespace), (), HOST)
    assert (found.owner.value, found.belongs_to) == (owner, belongs)


def test_without_facts_the_names_of_devices_are_what_is_known():
    assert attribute(rule("-A FORWARD -i docker0 ! -o docker0 -j ACCEPT")).belongs_to == "network bridge"
    found = attribute(rule("-A FORWARD -i br-ca280fabf39f ! -o br-ca280fabf39f -j ACCEPT"))
    assert (found.owner.value, found.belongs_to) == ("docker", "network ca280fabf39f")
    found = attribute(rule("-A FORWARD -i shop0 ! -o shop0 -j ACCEPT"))
    assert (found.owner.value, found.belongs_to) == ("operator", "")
    found = attribute(rule("-A DOCKER ! -i docker0 -p tcp -m tcp --dport 81 -j DNAT --to-destination [fd00::2]:80"))
    assert found.belongs_to == "published port 81/tcp (to [fd00::2]:80)"


def test_isolation_names_both_networks():
    second = rule("-A DOCKER-ISOLATION-STAGE-2 -o br-ca280fabf39f -j DROP")
    first = rule("-A DOCKER-ISOLATION-STAGE-1 -i shop0 ! -o shop0 -j DOCKER-ISOLATION-STAGE-2")
    found = attribute(second, (first, rule("-A FORWARD -j DOCKER-ISOLATION-STAGE-1")), HOST)
    assert found.belongs_to == "isolation of network app_default from network shop"


CALLED = [
    ("-A LOG_DROP -j DROP", ["-A ufw-user-input -s 10.9.0.0/16 -j LOG_DROP", "-A INPUT -j ufw-user-input"], "ufw", "user rule, incoming"),
    ("-A LOG_DROP -j DROP", ["-A INPUT -s 10.9.0.0/16 -j LOG_DROP"], "operator", ""),
    ("-A LOG_DROP -j DROP", ["-A DOCKER-USER -s 10.9.0.0/16 -j LOG_DROP", "-A FORWARD -j DOCKER-USER"], "operator", ""),
    ("-A LOG_DROP -j DROP", ["-A SECOND -j LOG_DROP", "-A IN_public_deny -j SECOND", "-A IN_public -j IN_public_deny", "-A INPUT_ZONES -g IN_public"], "firewalld", "zone public"),
    ("-A ufw-user-input -j DROP", ["-A MINE -j ufw-user-input", "-A INPUT -j MINE"], "ufw", "user rule, incoming"),
    ('-A LOG_DROP -m comment --comment "of ufw" -j DROP', ["-A MINE -j LOG_DROP", "-A INPUT -j MINE"], "operator", ""),
    ("-A IN_web -j DROP", ["-A INPUT_ZONES -g IN_web", "-A INPUT -j INPUT_ZONES"], "firewalld", "zone web, its target"),
    ("-A IN_web_allow -j DROP", ["-A INPUT -j IN_web_allow"], "operator", ""),
    ("-A IN_shut -j DROP", ["-A INPUT_POLICIES_pre -j IN_shut", "-A IN_public -j INPUT_POLICIES_pre", "-A INPUT_ZONES -g IN_public"], "firewalld", "policy shut, its target"),
    ("-A cali-pi-default.deny -j DROP", ["-A cali-tw-cali12 -j cali-pi-default.deny", "-A cali-to-wl-dispatch -o cali12 -g cali-tw-cali12"], "calico", "policy default.deny, incoming, workload cali12"),
    ("-A KUBE-SEP-4IDFLEQNRF7XJRXI -j DROP", ['-A KUBE-SVC-ONPYCELVNNCQ4NAD -m comment --comment "trackr/api:http" -j KUBE-SEP-4IDFLEQNRF7XJRXI'], "kube", "service trackr/api:http"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "callers", "owner", "belongs"), CALLED)
def test_who_calls_a_chain_counts(text, callers, owner, belongs):
    found = attribute(rule(text), tuple(rule(caller) for caller in callers), HOST)
    assert (found.owner.value, found.belongs_to) == (owner, belongs)


POLICIES = [
    (":FORWARD DROP", {"DOCKER", "FORWARD"}, "docker", "default of forwarded traffic, likely"),
    (":FORWARD DROP", set(), "docker", "default of forwarded traffic, likely"),
    (":FORWARD DROP", {"FORWARD"}, "operator", ""),
    (":FORWARD ACCEPT", {"DOCKER"}, "operator", ""),
    (":INPUT DROP", {"DOCKER"}, "operator", ""),
    (":INPUT DROP", {"ufw-before-input"}, "ufw", "default policy, incoming"),
    (":FORWARD DROP", {"ufw-before-forward", "DOCKER"}, "ufw", "default policy, routed"),
]


@pytest.mark.parametrize(("text", "chains", "owner", "belongs"), POLICIES)
def test_a_policy(text, chains, owner, belongs):
    found = attribute(rule(text), (), HOST, chains=chains)
    assert (found.owner.value, found.belongs_to) == (owner, belongs)


def test_a_policy_in_another_namespace_or_table_is_nobodys_we_know():
    assert attribute(rule(":FORWARD DROP", namespace="container:web"), (), HOST).owner.value == "operator"
    assert attribute(rule(":FORWARD DROP", table="mangle"), (), HOST).owner.value == "operator"


def test_the_last_refusal_is_firewallds_only_beside_its_chains():
    text = "-A INPUT -j REJECT --reject-with icmp-host-prohibited"
    found = attribute(rule(text), (), None, chains={"INPUT_direct", "INPUT_ZONES"})
    assert (found.owner.value, found.belongs_to) == ("firewalld", "no zone lets it in")
    limited = "-A INPUT -p tcp -j REJECT --reject-with icmp-host-prohibited"
    assert attribute(rule(limited), (), None, chains={"INPUT_direct"}).owner.value == "operator"


@pytest.mark.parametrize(
    ("chain", "keys", "belongs"),
    [
        (
            "cali-pri-_CVSZITRyIpEmH8AB6H",
            {"/calico/v1/policy/profile/ksa.kube-system.metrics-server/rules": {}},
            "profile ksa.kube-system.metrics-server, incoming",
        ),
        (
            "cali-pri-_b-WIgmNvlBH1FuEYm2",
            {"/calico/v1/host/a/workload/k8s/w/endpoint/e": {"profile_ids": ["ksa.kube-system.konnectivity-agent"]}},
            "profile ksa.kube-system.konnectivity-agent, incoming",
        ),
        (
            "cali-po-_rWDSk9LLgWIl_lpnJE2",
            {"/calico/v1/policy/tier/default/policy/kube-system%2Fknp.default.konnectivity-agent": {}},
            "policy kube-system/knp.default.konnectivity-agent, outgoing",
        ),
        (
            "cali-pri-_CVSZITRyIpEmH8AB6H",
            {"/calico/v1/policy/profile/ksa.kube-system.another/rules": {}},
            "profile with hash CVSZITRyIpEmH8AB6H, incoming",
        ),
    ],
)
def test_a_shortened_name_is_compared_with_the_names_that_are_known(chain, keys, belongs):
    assert attribute(rule(f"-A {chain} -j DROP"), (), calico(keys)).belongs_to == belongs
