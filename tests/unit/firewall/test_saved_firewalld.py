"""firewalld's two configurations, as firewall-cmd 1.3.3 lists them."""

from netdiag.firewall.saved_firewalld import diff_direct, diff_objects, direct_keys, read_objects

RUNNING = """public (active)
  target: default
  icmp-block-inversion: no
  interfaces: eth0
  sources: 
  services: dhcpv6-client ssh
  ports: 2377/tcp
  protocols: 
  forward: yes
  masquerade: yes
  forward-ports: 
	port=80:proto=tcp:toport=8080:toaddr=
  source-ports: 
  icmp-blocks: 
  rich rules: 
	rule family="ipv4" source address="10.1.0.0/16" accept
	rule family="ipv4" source address="10.2.0.0/16" port port="22" protocol="tcp" accept

docker (active)
  target: ACCEPT
  interfaces: docker0 docker_gwbridge

"""  # noqa: W291 - as firewall-cmd writes it
PERMANENT = """public
  target: DROP
  icmp-block-inversion: no
  interfaces: 
  sources: 10.9.0.0/16
  services: dhcpv6-client http ssh
  ports: 
  protocols: 
  forward: yes
  masquerade: no
  forward-ports: 
  source-ports: 
  icmp-blocks: 
  rich rules: 
	rule family="ipv4" source address="10.2.0.0/16" port port="22" protocol="tcp" accept

docker
  target: ACCEPT
  interfaces: 

extra
  target: default

"""  # noqa: W291 - as firewall-cmd writes it


def test_zones():
    found = {each.setting: each for each in diff_objects("zone", read_objects(RUNNING), read_objects(PERMANENT))}
    rich = 'rule family="ipv4" source address="10.1.0.0/16" accept'
    forward = "port=80:proto=tcp:toport=8080:toaddr="
    assert set(found) == {
        "zone public: target",
        "zone public: source 10.9.0.0/16",
        "zone public: service http",
        "zone public: port 2377/tcp",
        "zone public: masquerade",
        f"zone public: forward-port {forward}",
        f"zone public: rich-rule {rich}",
        "zone extra",
    }
    commands = {name: each.save or each.restore for name, each in found.items()}
    assert commands["zone public: port 2377/tcp"] == "firewall-cmd --permanent --zone=public --add-port=2377/tcp"
    assert commands["zone public: service http"] == "firewall-cmd --zone=public --add-service=http"
    assert commands["zone public: masquerade"] == "firewall-cmd --permanent --zone=public --add-masquerade"
    assert commands["zone public: target"] == "firewall-cmd --permanent --zone=public --set-target=default"
    assert commands[f"zone public: rich-rule {rich}"] == (
        f"firewall-cmd --permanent --zone=public --add-rich-rule='{rich}'"
    )
    assert (found["zone public: target"].runs, found["zone public: target"].saved) == ("default", "DROP")
    assert found["zone extra"].only_running is False


def test_the_same_twice_differs_in_nothing():
    assert list(diff_objects("zone", read_objects(RUNNING), read_objects(RUNNING))) == []


def test_the_engines_policy_is_the_engines():
    running = read_objects("docker-forwarding (active)\n  priority: -1\n  egress-zones: docker\n")
    assert list(diff_objects("policy", running, {})) == []


def test_direct_rules():
    one, two = "ipv4 filter INPUT 0 -p udp --dport 9 -j ACCEPT", "ipv6 nat POSTROUTING 1 -j MASQUERADE"
    found = list(diff_direct(f"{one}\n", f"{two}\n"))
    assert [(each.setting, each.only_running) for each in found] == [
        (f"direct rule {one}", True),
        (f"direct rule {two}", False),
    ]
    assert found[0].save == f"firewall-cmd --permanent --direct --add-rule {one}"
    assert direct_keys(one) == {(4, "filter", "INPUT", "-p udp -m udp --dport 9 -j ACCEPT")}


def test_nonsense_does_not_raise():
    for text in ("", "\n\n", "  target: x\n", "a b c\n\tx\n", "zone\n  x\n"):
        read_objects(text)
        direct_keys(text)
