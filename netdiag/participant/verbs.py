"""The registry of verbs and the one function that runs a request."""

import time
from typing import Any, Callable, Dict

from netdiag.participant import (
    arp,
    bound,
    burst,
    capture,
    caught,
    commands,
    control,
    dns,
    echo,
    ethtool,
    files,
    follow,
    http,
    netlink,
    probe,
    scratch_rules,
    sshd,
    sweep,
    system,
    tcp,
    tcx,
    tls,
    trace,
    watch,
)
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import FAILED, UNSUPPORTED, VerbError, from_os_error

Verb = Callable[[Dict[str, Any], Deadline], Dict[str, Any]]

VERBS: Dict[str, Verb] = {
    "identity": system.identity,
    "clock": system.clock,
    "namespaces": system.namespaces,
    "process-sockets": system.process_sockets,
    "file": files.file,
    "files": files.files,
    "file-tail": files.file_tail,
    "list-dir": files.list_dir,
    "command": commands.command,
    "docker-get": http.docker_get,
    "http-get": http.http_get,
    "unix-ask": control.unix_ask,
    "netlink-dump": netlink.netlink_dump,
    "netlink-get": netlink.netlink_get,
    "create-device": netlink.create_device,
    "ethtool": ethtool.ethtool,
    "resolve": tcp.resolve,
    "resolver-files": dns.resolver_files,
    "dns-query": dns.dns_query,
    "sshd-lookup": sshd.sshd_lookup,
    "tcp-connect": tcp.tcp_connect,
    "tcp-follow": follow.tcp_follow,
    "tls-exchange": tls.tls_exchange,
    "tls-hello": tls.tls_hello,
    "echo-sizes": echo.echo_sizes,
    "arp-ask": arp.arp_ask,
    "capture-start": capture.capture_start,
    "capture-read": capture.capture_read,
    "capture-stop": capture.capture_stop,
    "send-probe": probe.send_probe,
    "bind-port": bound.bind_port,
    "release-port": bound.release_port,
    "port-holders": bound.port_holders,
    "catch-start": caught.catch_start,
    "catch-stop": caught.catch_stop,
    "tcx-programs": tcx.tcx_programs,
    "firewall-trace": trace.firewall_trace,
    "firewall-burst": burst.firewall_burst,
    "firewall-sweep": sweep.firewall_sweep,
    "firewall-watch": watch.firewall_watch,
    "scratch-rules": scratch_rules.scratch_rules,
}
"""Every verb by its name. A verb's docstring documents its parameters, its data and its errors."""

DEFAULT_TIMEOUT_S = 5.0


def run(request: Dict[str, Any]) -> Dict[str, Any]:
    """Run one request {"verb", "params", "timeout_s"}; never raises.

    The answer holds ``data`` (the verb's own shape), or ``error`` {"kind", "text"} with a kind of
    `netdiag.participant.errors.KINDS`; and ``duration_s``.
    """
    start_s = time.monotonic()
    answer: Dict[str, Any] = {}
    try:
        answer["data"] = _run(request)
    except VerbError as error:
        answer["error"] = {"kind": error.kind, "text": one_line(error.text)}
    answer["duration_s"] = time.monotonic() - start_s
    return answer


def _run(request: Dict[str, Any]) -> Dict[str, Any]:
    name = str(request.get("verb"))
    verb = VERBS.get(name)
    if verb is None:
        raise VerbError(UNSUPPORTED, "verb {}: this participant does not know it".format(name))
    try:
        deadline = Deadline(float(request.get("timeout_s") or DEFAULT_TIMEOUT_S))
        return verb(dict(request.get("params") or {}), deadline)
    except VerbError:
        raise
    except OSError as error:
        raise from_os_error(error, "verb " + name)
    except Exception as error:  # a wrong parameter, or a fault of ours: the requester must still get its answer
        raise VerbError(FAILED, "verb {}: {}: {}".format(name, type(error).__name__, error))


def one_line(text: str) -> str:
    """``text`` without line breaks, at most 500 characters."""
    return " ".join(text.split())[:500]
