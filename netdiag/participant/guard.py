"""What a participant does for a peer that was let in by a key alone, and is no user of this host.

It tells what the readings of netdiag need and nothing beside: a published table of files, no directories, no text of
the peer's for a tool of this host. Packets are only sent, traced and watched where one end is an address of this host
and the other one is the peer's, or was named by the operator, or is a neighbour in a container's own network. How many
requests run in a second is bounded, and how many of them send.
"""

import ipaddress
import os
import re
import threading
import time
from typing import Any, Callable, Dict, Sequence, Tuple

from netdiag.participant.errors import PERMISSION, VerbError
from netdiag.participant.own_addresses import OwnAddresses
from netdiag.participant.system import NAMESPACE_DIRECTORIES
from netdiag.participant.verbs import one_line, run

REQUESTS_PER_S = 200.0
SENDING_PER_S = 50.0
MOST_TIMEOUT_S = 150.0
_FIREWALL_SERVICES = "(firewalld|nftables|ufw|iptables|ip6tables|netfilter-persistent)"

READ_FILES = (
    r"/proc/(net|sys/net)/(?!.*stable_secret).+",
    r"/proc/(crypto|filesystems|modules|uptime|config\.gz)",
    r"/proc/[0-9]+/(comm|cgroup)",
    r"/proc/sys/kernel/(modules_disabled|osrelease|tainted|random/boot_id)",
    r"/sys/class/dmi/id/(sys_vendor|product_name)",
    r"/(boot/config-[^/]+|lib/modules/[^/]+/(config|modules\.(builtin|dep)))",
    r"/etc/(machine-id|os-release|nftables\.conf|default/ufw)|/usr/lib/os-release",
    r"/etc/(firewalld|iptables|nftables\.d|nftables|ufw)/[^/]+",
    r"/etc/firewalld/(zones|policies|services|ipsets)/[^/]+\.xml|/usr/lib/firewalld/zones/public\.xml",
    r"/etc/sysconfig/(iptables|ip6tables|ipset|ipset\.d/[^/]+|nftables\.conf)",
    r"/etc/(fail2ban/fail2ban|csf/csf|shorewall/shorewall)\.conf",
    r"/run/(firewalld|fail2ban/fail2ban)\.pid|/run/docker\.sock",
    r"/etc/(systemd/system/[^/]+\.wants/{0}\.service|rc[^/]*\.d/S[^/]*{0}|runlevels/[^/]+/{0})".format(
        _FIREWALL_SERVICES
    ),
    r"/var/log/(upstart/)?docker(\.log)?",
)
"""The files that are read; no other. Wildcards of a pattern stand for themselves: none leads across a slash."""
READ_DIRECTORIES = r"/(var/)?run/(bird|calico)|/[^.][^*]*/swarm"
_READABLE = re.compile("|".join("(?:{})".format(pattern) for pattern in READ_FILES))
_ONE_OF_ONE = re.compile(r"\[([^\]!^-])\]")
_NAMESPACE = re.compile(r"/proc/[0-9]+/ns/net|({})/[^/]+".format("|".join(NAMESPACE_DIRECTORIES)))


class Guard:
    """Runs the requests of one peer; `answer` is for `netdiag.participant.stream.serve`."""

    def __init__(self, peer: str, reach: Sequence[str] = (), answer: Callable[..., Dict[str, Any]] = run) -> None:
        """Let a peer in.

        Args:
            peer: Its address, as this host sees it.
            reach: Addresses and networks that packets may be exchanged with besides. Raises ValueError for others.
            answer: What runs a request that is let through.
        """
        self._reach = [ipaddress.ip_network(text, strict=False) for text in (peer.partition("%")[0],) + tuple(reach)]
        self._answer = answer
        self._addresses = OwnAddresses()
        self._all = _Bucket(REQUESTS_PER_S)
        self._sending = _Bucket(SENDING_PER_S)
        self._lock = threading.Lock()
        self.asked: Dict[str, int] = {}
        self.refused = 0

    def answer(self, request: Dict[str, Any]) -> Dict[str, Any]:
        """The answer to one request, or why it is refused; never raises."""
        verb = str(request.get("verb"))[:40]
        self._all.take()
        try:
            permitted = self._permitted(verb, request)
        except VerbError as error:
            return self._refusal(error.kind, error.text)
        except Exception as error:  # whatever a hostile request holds, it is answered
            return self._refusal("failed", "verb {}: {}: {}".format(verb, type(error).__name__, error))
        with self._lock:
            self.asked[verb] = self.asked.get(verb, 0) + 1
        answer = self._answer(permitted)
        if verb == "files" and "data" in answer:  # a wildcard may have matched what no reading asks for
            texts = answer["data"]["files"]
            answer["data"]["files"] = {path: text for path, text in texts.items() if _may_read(path)}
        return answer

    def _refusal(self, kind: str, text: str) -> Dict[str, Any]:
        with self._lock:
            self.refused += 1
        return {"error": {"kind": kind, "text": one_line(text)}, "duration_s": 0.0}

    def _permitted(self, verb: str, request: Dict[str, Any]) -> Dict[str, Any]:
        rule = RULES.get(verb)
        if rule is None:
            raise VerbError(PERMISSION, "verb {}: not over netdiag listen".format(verb))
        params = dict(request.get("params") or {})
        _check_netns(_netns(params))
        rule(self, params)
        timeout_s = float(request.get("timeout_s") or 5.0)
        if not 0.0 < timeout_s <= MOST_TIMEOUT_S:
            timeout_s = MOST_TIMEOUT_S
        return {"verb": verb, "params": params, "timeout_s": timeout_s}

    # What each verb is held to. A rule may change the parameters; it raises VerbError to refuse.

    def free(self, params: Dict[str, Any]) -> None:
        """It reads what every reading needs, or holds its own table."""

    def one_file(self, params: Dict[str, Any]) -> None:
        """Only a file of the table."""
        if not _may_read(str(params["path"])):
            raise _unread(str(params["path"]))

    def some_files(self, params: Dict[str, Any]) -> None:
        """Only files of the table."""
        for pattern in params["globs"]:
            if not _may_read(str(pattern)):
                raise _unread(str(pattern))

    def directory(self, params: Dict[str, Any]) -> None:
        """Only names in directories that tell of BIRD and of a swarm's state."""
        path = str(params["path"])
        if ".." in path or re.fullmatch(READ_DIRECTORIES, path) is None:
            raise _unread(path)

    def all_namespaces(self, params: Dict[str, Any]) -> None:
        """Only where namespaces are known to be kept."""
        params.pop("directories", None)

    def destination(self, params: Dict[str, Any]) -> None:
        """A connection or an echo to ``address``."""
        self._sending.take()
        self._check_far(str(params["address"]), _netns(params), "send to")

    def bird(self, params: Dict[str, Any]) -> None:
        """A question whose answer ends as BIRD's do, by no pattern of the peer's."""
        params.pop("until", None)

    def engine(self, params: Dict[str, Any]) -> None:
        """The engine's state, by no other socket, and nothing that it would have to fetch from elsewhere."""
        if "/distribution/" in str(params["path"]):
            raise VerbError(PERMISSION, "GET {}: not over netdiag listen".format(params["path"]))
        if params.get("socket") and not str(params["socket"]).endswith("/docker.sock"):
            raise VerbError(PERMISSION, "ask {}: over netdiag listen only docker.sock".format(params["socket"]))

    def name(self, params: Dict[str, Any]) -> None:
        """A name that this host's resolver may have to send on."""
        if len(str(params["name"])) > 255:
            raise VerbError(PERMISSION, "resolve: a name of more than 255 characters")
        self._sending.take()

    def question(self, params: Dict[str, Any]) -> None:
        """A question to a name server that a connection may be made to as well."""
        self.name(params)
        self._check_far(str(params["server"]), _netns(params), "ask")

    def one_packet(self, params: Dict[str, Any]) -> None:
        """A packet of ours: one that leaves goes where a connection may; one that arrives concerns this host."""
        self._sending.take()
        if params["path"] == "out":
            self._check_far(str(params["dst"]), _netns(params), "send to")
        else:
            self._check_near((params["src"], params["dst"]), _netns(params), "trace")

    def awaited(self, params: Dict[str, Any]) -> None:
        """A packet that is waited for: its far end must be said."""
        far = params.get("dst" if params["path"] == "out" else "src")
        if not far:
            raise VerbError(PERMISSION, "wait for any packet: over netdiag listen its far end must be said")
        self._check_far(str(far), _netns(params), "wait for a packet with")

    def watched(self, params: Dict[str, Any]) -> None:
        """A flow with both its ends."""
        self._sending.take()
        for point in params["points"]:
            _check_netns(_netns(point))
            flow = point["flow"]
            if not flow.get("a") or not flow.get("b"):
                raise VerbError(PERMISSION, "watch a flow: over netdiag listen both its ends must be said")
            for begin in [flow["a"]] + list(flow.get("others") or ()):
                self._check_near((begin, flow["b"]), _netns(point), "watch")

    def _check_far(self, text: str, netns: str, tried: str) -> None:
        address = _address(text)
        if any(address in network for network in self._reach if network.version == address.version):
            return
        # In a container's or an overlay's own namespace its neighbours are what a diagnosis is about; on the host's
        # own networks they are other people's machines, and on its loopback what nobody else was to reach.
        found = self._addresses.of(netns)
        inside = _is_other(netns)
        if any(address in here.network if inside else address == here.ip for here in found) and (
            inside or not address.is_loopback
        ):
            return
        if not address.is_loopback and self._addresses.anywhere(address):
            return
        text = "{} {}: neither this host's nor the peer's; to allow it: netdiag listen … --reach {}"
        raise VerbError(PERMISSION, text.format(tried, address, address))

    def _check_near(self, ends: Tuple[Any, Any], netns: str, tried: str) -> None:
        addresses = [_address(str(end)) for end in ends]
        if any(address == here.ip for here in self._addresses.of(netns) for address in addresses):
            return
        if any(self._addresses.anywhere(address) for address in addresses):
            return
        text = "{} a flow between {} and {}: neither is an address of this host"
        raise VerbError(PERMISSION, text.format(tried, addresses[0], addresses[1]))


Rule = Callable[[Guard, Dict[str, Any]], None]

RULES: Dict[str, Rule] = {
    "identity": Guard.free,
    "clock": Guard.free,
    "namespaces": Guard.all_namespaces,
    "process-sockets": Guard.free,
    "file": Guard.one_file,
    "files": Guard.some_files,
    "file-tail": Guard.one_file,
    "list-dir": Guard.directory,
    "command": Guard.free,
    "docker-get": Guard.engine,
    "unix-ask": Guard.bird,
    "netlink-dump": Guard.free,
    "netlink-get": Guard.free,
    "ethtool": Guard.free,
    "tcx-programs": Guard.free,
    "resolve": Guard.name,
    "resolver-files": Guard.free,
    "dns-query": Guard.question,
    "sshd-lookup": Guard.free,
    "tcp-connect": Guard.destination,
    "tcp-follow": Guard.destination,
    "tls-exchange": Guard.destination,
    "tls-hello": Guard.destination,
    "echo-sizes": Guard.destination,
    "arp-ask": Guard.destination,
    "capture-start": Guard.watched,
    "capture-stop": Guard.free,
    "firewall-trace": Guard.one_packet,
    "firewall-burst": Guard.one_packet,
    "firewall-sweep": Guard.free,
    "firewall-watch": Guard.awaited,
}
"""What each verb that is served is held to."""

NOT_SERVED = (
    *("create-device", "http-get", "scratch-rules"),
    *("capture-read", "send-probe", "bind-port", "release-port", "port-holders", "catch-start", "catch-stop"),
)
"""They load modules, read a datastore, give a text of the peer's to a tool that runs as root here, or, for the
examination from both sides, send from ports and hold them: that is for a user of this host to have done."""


class _Bucket:
    """So many a second; whoever is too fast waits. A burst of four seconds' worth passes at once."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._lock = threading.Lock()
        self._free_s = time.monotonic() - 4.0

    def take(self) -> None:
        now_s = time.monotonic()
        with self._lock:
            self._free_s = max(self._free_s, now_s - 4.0) + 1.0 / self._per_s
            wait_s = self._free_s - now_s
        if wait_s > 0.0:
            time.sleep(wait_s)


def _netns(params: Dict[str, Any]) -> str:
    return str(params.get("netns") or "")


def _is_other(netns: str) -> bool:
    """Whether this is another namespace than the participant's own."""
    try:
        return bool(netns) and os.stat(netns).st_ino != os.stat("/proc/self/ns/net").st_ino
    except OSError:
        return False


def _address(text: str) -> Any:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise VerbError(PERMISSION, "{}: over netdiag listen only addresses are taken, no names".format(text[:80]))


def _may_read(path: str) -> bool:
    plain = _ONE_OF_ONE.sub(r"\1", path)
    return ".." not in plain and _READABLE.fullmatch(plain) is not None


def _unread(path: str) -> VerbError:
    return VerbError(PERMISSION, "read {}: not among what is read over netdiag listen".format(path[:120]))


def _check_netns(netns: str) -> None:
    if netns and (".." in netns or _NAMESPACE.fullmatch(netns) is None):
        raise VerbError(PERMISSION, "enter {}: no place where namespaces are kept".format(netns[:120]))
