"""The container image on a host with a real engine, without Python and without a network beyond its neighbour.

What the image says must be what netdiag says that is installed on the same host: the same causes with the same rules.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from netdiag.errors import LabToolMissing
from netdiag.lab.process import until
from netdiag.lab.root import CHECKOUT
from tests.lab.test_diagnose_overlay import IMAGE
from tools.image.build import build
from tools.image.contents import PROGRAMS
from tools.image.inputs import NotFetched

FLAGS = ("--privileged", "--net", "host", "--pid", "host")
RUN = ("docker", "run", "--rm", *FLAGS, "netdiag")
INTERPRETERS = "for directory in $(echo $PATH | tr : ' '); do readlink -f $directory/python3*[0-9]; done | sort -u"
LARGEST_MB = 40.0
PATIENCE_S = 90.0
"""The engine copies the whole image for each container here, which a busy machine takes its time for."""
TOOLS = ("ssh", "ip", "nft", "iptables-nft-save", "iptables-legacy-save")

# What --privileged gives are all capabilities that the kernel knows; a machine that is a guest itself can lack some.
RUNTIME = """#!/bin/sh
for word; do
  [ "$before" = --bundle ] && sed -i 's/"\\({names})",//g; s/,"\\({names})"//g' "$word/config.json"
  before=$word
done
exec runc "$@"
"""


IMPORT_ALL = """
import agent, importlib, netdiag, pkgutil
for package in (agent, netdiag):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
import cryptography.x509, docker, etcd, hpack, pyroute2, rich.table, ssl, structlog
"""


@pytest.fixture(scope="module")
def image(lab_root, tmp_path_factory):
    """The image as ``make image`` builds it, from the packages of an earlier build where there are some."""
    try:
        return build(tmp_path_factory.mktemp("image") / "netdiag.tar", print)
    except (NotFetched, LabToolMissing) as error:
        pytest.skip(f"the image cannot be built here: {error}")


@pytest.fixture(scope="module")
def lab(up, image):
    """A manager that answers by ssh, and a worker without Python that has loaded the image."""
    with up("swarm2") as running:
        running.break_("sshd", host="manager")
        worker = running.host("worker")
        admit_all_capabilities(worker)
        hide(worker, *pythons(worker))
        worker.exec(["mount", "-t", "tmpfs", "none", sys.prefix])
        shutil.copyfile(image.file, worker.path("/root/netdiag.tar"))
        worker.exec(["docker", "load", "-i", "/root/netdiag.tar"], timeout_s=PATIENCE_S)
        yield running


@pytest.fixture(autouse=True)
def _whole(lab):
    """Every test begins on a host that lacks Python, and leaves the faults and containers as it found them."""
    worker = lab.host("worker")
    before = len(lab.faults())
    assert worker.exec(["python3", "-c", "1"], check=False).returncode != 0
    assert worker.exec(["netdiag", "--version"], check=False).returncode != 0
    yield
    for fault in reversed(lab.faults()[before:]):
        lab.heal(fault)
    assert worker.exec(["docker", "ps", "-aq", "--filter", "ancestor=netdiag"]).stdout == ""


def admit_all_capabilities(host):
    """Let an engine run privileged containers though the machine itself lacks some capability."""
    bound = int(re.search(r"^CapBnd:\s*(\S+)", Path("/proc/self/status").read_text(), re.MULTILINE)[1], 16)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    lacking = [number for number in range(last + 1) if not bound >> number & 1]
    if not lacking:
        return
    named = {24: "CAP_SYS_RESOURCE", 16: "CAP_SYS_MODULE", 17: "CAP_SYS_RAWIO", 25: "CAP_SYS_TIME", 22: "CAP_SYS_BOOT"}
    names = "\\|".join(named[number] for number in lacking) + "\\"
    host.exec(["tee", "/usr/local/bin/runc-here"], stdin=RUNTIME.format(names=names))
    host.exec(["chmod", "755", "/usr/local/bin/runc-here"])
    settings = {"runtimes": {"here": {"path": "/usr/local/bin/runc-here"}}, "default-runtime": "here"}
    host.exec(["mkdir", "-p", "/etc/docker"])
    host.exec(["tee", "/etc/docker/daemon.json"], stdin=json.dumps(settings))
    host.exec(["sh", "-c", "kill -HUP $(cat /run/docker.pid)"])
    until(lambda: host.docker.info()["DefaultRuntime"] == "here", 5.0, "the engine's other runtime")


def pythons(host):
    """Every Python of a host, also the one that our own environment is made with."""
    return [path for path in host.exec(["sh", "-c", INTERPRETERS]).stdout.split() if host.path(path).is_file()]


def hide(host, *programs):
    """Put something that cannot be run in a program's place; gives what takes it away again."""
    for program in programs:
        host.exec(["mount", "--bind", "/dev/null", program])
    return [["umount", program] for program in programs]


def installed(host, *words):
    """Run the installed netdiag, in a view of the host's files in which nothing is hidden."""
    targets = [line.split()[1] for line in host.exec(["cat", "/proc/self/mounts"]).stdout.splitlines()]
    mounts = " ".join([target for target in targets if "/bin/python3" in target or target == sys.prefix])
    return host.exec(
        ["unshare", "-m", "sh", "-c", f'umount {mounts} && exec "$@"', "sh", "netdiag", *words],
        check=False,
        timeout_s=PATIENCE_S,
    )


def contained(host, *words):
    return host.exec([*RUN, *words], check=False, timeout_s=PATIENCE_S)


def both(host, *words, code):
    """The documents that the installed one and the image print, when both end with this code."""
    documents = []
    for run in (installed, contained):
        result = run(host, *words, "--output", "json")
        assert result.returncode == code, result.stdout + result.stderr
        assert "Traceback" not in result.stderr
        # A proposed rule is signed with the moment at which it was thought of.
        documents.append(json.loads(re.sub(r"netdiag-[0-9a-f]{8}\b", "netdiag-SIGN", result.stdout)))
    return documents


def essence(report):
    """What a report says, without what differs from one run to the next."""
    told = ("code", "host", "confidence", "object", "affects", "remedy")
    return {
        "verdict": report["verdict"],
        "answers": report.get("answers"),
        "causes": [{key: cause[key] for key in told} for cause in report["causes"]],
        "findings": sorted((found["check"], found["state"]) for found in report["findings"]),
    }


def named(report):
    return [
        (cause["code"], cause["host"], cause["confidence"], cause["object"].get("chain"), cause["object"].get("number"))
        for cause in report["causes"]
        if cause["code"].startswith("firewall.")
    ]


def test_what_is_loaded(lab, image):
    worker = lab.host("worker")
    assert image.bytes_ / 1e6 < LARGEST_MB
    for words in (["docker", "run", "--rm", "netdiag"], list(RUN)):
        assert worker.exec([*words, "--version"]).stdout == installed(worker, "--version").stdout
    (inspected,) = json.loads(worker.exec(["docker", "image", "inspect", "netdiag:latest"]).stdout)
    labels = inspected["Config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == "netdiag"
    assert f"netdiag:{labels['org.opencontainers.image.version']}" in inspected["RepoTags"]


def test_it_is_complete_by_itself(lab):
    """Every module and every program runs where there is nothing but the image; on a host it could lean on the host's."""
    worker = lab.host("worker")
    alone = ["docker", "run", "--rm", "--network", "none", "--entrypoint"]
    worker.exec([*alone, "/usr/bin/python3", "netdiag", "-I", "-W", "error", "-c", IMPORT_ALL])
    for program in PROGRAMS.values():
        result = worker.exec([*alone, f"/{program}", "netdiag", "-V"], check=False)
        assert result.returncode in (0, 1), result.stderr
        assert "shared librar" not in result.stderr


def test_the_same_bytes_again(image, tmp_path):
    assert build(tmp_path / "again.tar", print).digest == image.digest


def test_a_rule_of_this_host(lab):
    lab.break_("drop", host="worker", chain="INPUT", proto="udp", dport=9)
    lab.break_("drop", host="worker", chain="INPUT", proto="tcp", dport=2377, position=2)
    for found in both(lab.host("worker"), "firewall", "trace", "--dport", "2377", code=1):
        assert found["level"] == "owned-trace"
        assert (found["rule"]["chain"], found["rule"]["number"], found["rule"]["owner"]) == ("INPUT", 2, "operator")


def test_a_rule_of_the_other_host_by_ssh(lab):
    worker, manager = lab.host("worker"), lab.host("manager")
    lab.break_("drop", host="manager", chain="INPUT", proto="tcp", dport=2377)
    words = ("preflight", "swarm", "--manager", manager.address, "--via", "ssh")
    plain, held = both(worker, *words, code=1)
    assert named(held) == [("firewall.rule", "manager", "proven", "INPUT", 1)]
    assert essence(held) == essence(plain)
    words = ("diagnose", "worker", "manager:2377", "--via", "ssh")
    plain, held = both(worker, *words, code=1)
    assert named(held) == [("firewall.rule", "manager", "proven", "INPUT", 1)]
    assert essence(held) == essence(plain)


def test_nothing_is_wrong(lab):
    """The state that only looks alike: no cause where no rule is in the way."""
    words = ("preflight", "swarm", "--manager", lab.host("manager").address, "--via", "ssh")
    plain, held = both(lab.host("worker"), *words, code=0)
    assert held["answers"]["join"] == "yes"
    assert named(held) == []
    assert essence(held) == essence(plain)


def test_inside_a_container_of_the_host(lab):
    worker = lab.host("worker")
    worker.exec(["docker", "run", "-d", "--name", "web", IMAGE, "httpd", "-f", "-p", "80"])
    try:
        lab.break_("drop", host="worker", chain="INPUT", proto="tcp", dport=80, netns="container:web")
        for found in both(worker, "firewall", "trace", "--container", "web", "--dport", "80", code=1):
            assert found["rule"]["namespace"] == "container:web"
            assert (found["rule"]["chain"], found["rule"]["number"]) == ("INPUT", 1)
    finally:
        worker.exec(["docker", "rm", "-f", "web"])


def test_over_an_overlay_network(lab):
    """The engine's own network namespaces are found, those that only a mount of the host holds as well."""
    worker, manager = lab.host("worker"), lab.host("manager")
    assert lab.swarm_join("worker", "manager").joined
    try:
        manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
        run = ["docker", "run", "-d", "--network", "app", "--name"]
        worker.exec([*run, "front", IMAGE, "sleep", "100000"])
        manager.exec([*run, "back", IMAGE, "httpd", "-f", "-p", "80"])
        words = ("diagnose", "front", "manager/back:80", "--via", "ssh")
        assert both(worker, *words, code=0)[1]["causes"] == []
        lab.break_("drop", host="manager", chain="INPUT", proto="udp", dport=4789)
        plain, held = both(worker, *words, code=1)
        assert named(held) == [("firewall.rule", "manager", "proven", "INPUT", 1)]
        assert essence(held)["causes"] == essence(plain)["causes"]
    finally:
        worker.exec(["docker", "rm", "-f", "front"], check=False)
        manager.exec(["docker", "rm", "-f", "back"], check=False)
        lab.swarm_leave("worker")


def test_a_host_without_the_programs(lab):
    """What the host lacks is in the image, ssh included; what it has is its own."""
    worker = lab.host("worker")
    lab.break_("drop", host="worker", chain="INPUT", proto="tcp", dport=2377)
    lab.break_("drop", host="manager", chain="INPUT", proto="tcp", dport=2377)
    listed = {tool: worker.exec(["sh", "-c", f"readlink -f $(command -v {tool})"]).stdout.strip() for tool in TOOLS}
    undo = hide(worker, *sorted(set(listed.values())))
    try:
        assert all(worker.exec([tool, "-V"], check=False).returncode for tool in TOOLS)
        words = ("preflight", "swarm", "--manager", lab.host("manager").address, "--via", "ssh", "--output", "json")
        result = contained(worker, *words)
        assert result.returncode == 1, result.stderr
        assert named(json.loads(result.stdout)) == [("firewall.rule", "manager", "proven", "INPUT", 1)]
        result = contained(worker, "firewall", "trace", "--dport", "2377", "--output", "json")
        rule = json.loads(result.stdout)["rule"]
        assert (rule["text"], rule["number"]) == ("-A INPUT -p tcp -m tcp --dport 2377 -j DROP", 1)
    finally:
        for words in undo:
            worker.exec(words)


# A host of its own network and processes: what is in `host` is its root, and its first process only waits.
BARE = """
mount --make-rprivate /
mount --bind {host} {host}
cd {host}
mount -t proc proc proc
mount --bind /dev dev
pivot_root . old
exec /bin/busybox sh -c "/bin/busybox umount -l /old; echo up; exec /bin/busybox sleep 1000"
"""
CONTAINER = (
    "mount -t proc proc {root}/proc && exec chroot {root} /usr/bin/python3 -I -S /usr/lib/netdiag/enter.py {words}"
)


def test_a_host_without_the_images_libc(image, lab_root, tmp_path):
    """The host has busybox and nothing else, not even a C library: all that runs there is the image's."""
    host, root = tmp_path / "host", tmp_path / "image"
    for name in ("bin", "dev", "proc", "old", "etc"):
        (host / name).mkdir(parents=True)
    shutil.copy(next(lab_root.glob("usr/bin/busybox")), host / "bin/busybox")
    (host / "bin/sh").symlink_to("busybox")
    unpack(image.file, root)
    new = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-c", BARE.format(host=host)]
    with subprocess.Popen(new, stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout.readline() == "up\n"
            (pid,) = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
            iptables = ["chroot", str(root), "/usr/sbin/xtables-nft-multi", "iptables"]
            add = [*iptables, "-A", "INPUT", "-p", "tcp", "--dport", "2377", "-j", "DROP"]
            subprocess.run(["nsenter", "-t", pid, "--net", *add], check=True)
            enter = ["nsenter", "-t", pid, "--pid", "unshare", "--mount", "sh", "-c"]
            words = CONTAINER.format(root=root, words="facts firewall --output json")
            done = subprocess.run([*enter, words], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert "-A INPUT -p tcp -m tcp --dport 2377 -j DROP" in done.stdout
        finally:
            first.kill()


def unpack(file, root):
    """Lay an image's layers over each other."""
    with tarfile.open(file) as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json"))
        for name in manifest["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(name), mode="r:gz") as layer:
                layer.extractall(root, filter="fully_trusted")


def test_a_killed_container_leaves_no_rule(lab):
    """The guard of a change outlives the container, whose other processes the engine kills, however slow it is."""
    worker = lab.host("worker")
    lab.break_("drop", host="worker", chain="INPUT", proto="tcp", dport=2377)
    words = ("firewall", "allow", "--src", lab.host("manager").address, "--dport", "2377", "--apply")
    rules = ["iptables", "-S", "INPUT"]
    before = worker.exec(rules).stdout
    worker.exec(["docker", "run", "-d", "--name", "held", *FLAGS, "netdiag", *words, "--confirm-within", "60"])
    try:
        until(lambda: "-j ACCEPT" in worker.exec(rules).stdout, 10.0, "the rule that lets it through")
        worker.exec(["pkill", "-STOP", "-f", "change_guard"])
        worker.exec(["docker", "kill", "held"])
        worker.exec(["docker", "wait", "held"])
        assert worker.exec(rules).stdout != before
        worker.exec(["pkill", "-CONT", "-f", "change_guard"])
        until(lambda: worker.exec(rules).stdout == before, 10.0, "the rule to be gone")
    finally:
        worker.exec(["docker", "rm", "-f", "held"])


def test_files_are_the_hosts(lab):
    """What is written is written on the host, and nothing else is; no mount is left."""
    worker = lab.host("worker")
    worker.exec(["mkdir", "-p", "/var/tmp/case"])
    contained(worker, "--version")  # the first container in the host's network makes the engine mount its namespace
    mounts = worker.exec(["cat", "/proc/self/mounts"]).stdout
    run = ["docker", "run", "--rm", *FLAGS, "-w", "/var/tmp/case", "netdiag"]
    worker.exec([*run, "collect", "-o", "here.netdiag"])
    assert worker.exec(["ls", "/var/tmp/case"]).stdout.split() == ["here.netdiag"]
    assert worker.exec(["cat", "/proc/self/mounts"]).stdout == mounts
    worker.exec(["rm", "-r", "/var/tmp/case"])


def test_a_container_that_sees_only_itself_is_no_answer(lab):
    worker = lab.host("worker")
    for flags, reason in (((), "--pid host"), (("--pid", "host"), "--privileged")):
        result = worker.exec(["docker", "run", "--rm", *flags, "netdiag", "facts"], check=False)
        assert result.returncode == 2
        assert reason in result.stderr
        assert "Run it as: docker run --rm --privileged --net host --pid host netdiag" in result.stderr
    told = worker.exec(["docker", "run", "--rm", "netdiag", "explain", "firewall.rule"])
    assert "firewall.rule" in told.stdout
    asked = ["docker", "run", "--rm", "-e", "NETDIAG_VIEW=container", "netdiag", "facts", "--output", "json"]
    assert worker.exec(asked).returncode == 0


def test_registries_that_cannot_be_reached(lab_root, tmp_path):
    """One line with apt's own reason, and nothing that a next build would take for complete."""
    (tmp_path / "apt.conf").write_text('Acquire::http::Proxy "http://127.0.0.1:9";\nAcquire::Retries "0";\n')
    environment = {**os.environ, "NETDIAG_LAB_ROOT": str(tmp_path), "APT_CONFIG": str(tmp_path / "apt.conf")}
    words = [sys.executable, "-m", "tools.image", "--output", str(tmp_path / "image.tar")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=CHECKOUT)
    assert done.returncode == 2
    assert "image: apt-get failed: " in done.stderr
    assert not (tmp_path / "image.tar").exists()
    assert list(tmp_path.glob("image-[0-9a-f]*")) == []
