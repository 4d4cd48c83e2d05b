import pytest

from netdiag.firewall.owner import owner_of
from netdiag.model.firewall import Owner


@pytest.mark.parametrize(
    ("chain", "text", "owner"),
    [
        pytest.param("INPUT", "-A INPUT -p udp -j DROP", Owner.OPERATOR, id="by hand"),
        pytest.param("DOCKER-USER", "-A DOCKER-USER -j DROP", Owner.OPERATOR, id="Docker's chain for the operator"),
        pytest.param("FORWARD", "-A FORWARD -j DOCKER-USER", Owner.DOCKER, id="the call of that chain"),
        pytest.param("DOCKER", "-A DOCKER -j RETURN", Owner.DOCKER, id="docker"),
        pytest.param("DOCKER-ISOLATION-STAGE-1", "-A DOCKER-ISOLATION-STAGE-1 -j RETURN", Owner.DOCKER, id="isolation"),
        pytest.param("FORWARD", "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT", Owner.DOCKER, id="docker's bridge"),
        pytest.param("DOCKER-INGRESS", "-A DOCKER-INGRESS -j RETURN", Owner.SWARM, id="routing mesh"),
        pytest.param(
            "INPUT", '-A INPUT -m comment --comment "cali:abc" -j cali-INPUT', Owner.CALICO, id="calico's comment"
        ),
        pytest.param("cali-INPUT", "-A cali-INPUT -j DROP", Owner.CALICO, id="calico's chain"),
        pytest.param("IN_public_deny", "-A IN_public_deny -j DROP", Owner.FIREWALLD, id="zone"),
        pytest.param("INPUT", "-A INPUT -j INPUT_ZONES", Owner.FIREWALLD, id="call of the zones"),
        pytest.param("ufw-user-input", "-A ufw-user-input -j DROP", Owner.UFW, id="ufw"),
        pytest.param("ufw6-user-input", "-A ufw6-user-input -j DROP", Owner.UFW, id="ufw for IPv6"),
        pytest.param("KUBE-FIREWALL", "-A KUBE-FIREWALL -j DROP", Owner.KUBE, id="kube"),
        pytest.param("INPUT", "-A INPUT -j f2b-sshd", Owner.FAIL2BAN, id="call of fail2ban"),
        pytest.param("INVALIDS", "-A INVALIDS -j DROP", Owner.OPERATOR, id="a chain of an operator"),
    ],
)
def test_owner(chain, text, owner):
    assert owner_of(chain, text) is owner
