"""What of an engine's answers leaves the host: nothing that an operator may have put a secret into."""

import copy
import json
from typing import Any

import pytest

from netdiag.participant.redact import mask_userinfo, redact

SECRET = "hunter2"

CONTAINER = {
    "Id": "c1",
    "Args": ["--password", SECRET],
    "Path": "/app",
    "State": {"Pid": 7, "Health": {"Log": [{"Output": SECRET}]}},
    "Config": {
        "Hostname": "web",
        "Image": "app:1",
        "Env": ["PASSWORD=" + SECRET],
        "Cmd": ["run", SECRET],
        "Entrypoint": [SECRET],
        "Labels": {"com.docker.swarm.task.name": "web.1", "traefik.password": SECRET},
        "Healthcheck": {"Test": ["CMD", "curl", SECRET]},
        "Shell": [SECRET],
    },
    "HostConfig": {
        "NetworkMode": "ov1",
        "LogConfig": {"Type": "splunk", "Config": {"splunk-token": SECRET}},
        "Mounts": [{"VolumeOptions": {"DriverConfig": {"Options": {"o": "password=" + SECRET}}}}],
        "Annotations": {"x": SECRET},
    },
    "NetworkSettings": {"SandboxKey": "/var/run/docker/netns/ab", "Networks": {"ov1": {"DriverOpts": {"key": SECRET}}}},
}
SERVICE = {
    "ID": "s1",
    "Spec": {
        "Name": "web",
        "Labels": {"a": SECRET},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "app:1",
                "Env": [SECRET],
                "Args": [SECRET],
                "Command": [SECRET],
                "Labels": {"x": SECRET},
                "Secrets": [{"SecretName": SECRET}],
                "Privileges": {"CredentialSpec": SECRET},
                "User": SECRET,
            },
            "LogDriver": {"Options": {"token": SECRET}},
            "Networks": [{"Target": "n1", "DriverOpts": {"p": SECRET}}],
        },
        "EndpointSpec": {"Mode": "vip", "Ports": [{"PublishedPort": 80}]},
    },
    "PreviousSpec": {"TaskTemplate": {"ContainerSpec": {"Env": [SECRET]}}},
}
INFO = {
    "ServerVersion": "26.1",
    "HttpProxy": f"http://user:{SECRET}@proxy:3128",
    "HttpsProxy": f"user:{SECRET}@proxy:3128",
    "NoProxy": "localhost,10.0.0.0/8",
    "Labels": ["token=" + SECRET],
    "RegistryConfig": {"Mirrors": [f"https://u:{SECRET}@mirror/"]},
    "Swarm": {"NodeID": "n1", "Cluster": {"Spec": {"CAConfig": {"SigningCAKey": SECRET}, "Labels": {"a": SECRET}}}},
    "Warnings": [f"could not reach http://u:{SECRET}@mirror"],
}


@pytest.mark.parametrize("answer", [CONTAINER, SERVICE, INFO, [CONTAINER, SERVICE]], ids=["c", "s", "info", "list"])
def test_no_secret_leaves(answer: Any) -> None:
    before = copy.deepcopy(answer)
    assert SECRET not in json.dumps(redact(answer))
    assert answer == before


def test_what_diagnosis_needs_is_kept() -> None:
    container = redact(CONTAINER)
    assert container["State"]["Pid"] == 7
    assert container["Config"]["Labels"] == {"com.docker.swarm.task.name": "web.1"}
    assert container["Config"]["Image"] == "app:1"
    assert container["HostConfig"] == {"NetworkMode": "ov1"}
    assert container["NetworkSettings"]["SandboxKey"] == "/var/run/docker/netns/ab"
    assert redact(SERVICE)["Spec"]["TaskTemplate"]["ContainerSpec"] == {"Image": "app:1"}
    assert redact(SERVICE)["Spec"]["EndpointSpec"]["Ports"] == [{"PublishedPort": 80}]
    info = redact(INFO)
    assert (info["HttpProxy"], info["HttpsProxy"]) == ("http://***@proxy:3128", "***@proxy:3128")
    assert info["NoProxy"] == "localhost,10.0.0.0/8"
    options = {"com.docker.network.driver.overlay.vxlanid_list": "4097", "encrypted": "", "secret": SECRET}
    assert redact({"Options": options})["Options"].keys() == options.keys() - {"secret"}


def test_only_the_user_part_of_a_url_is_masked() -> None:
    assert mask_userinfo("see https://a:b@c/d@e and http://c/d@e") == "see https://***@c/d@e and http://c/d@e"
