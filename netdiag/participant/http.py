"""Verbs that read over HTTP: the Docker Engine's socket and an etcd's version, health and v2 keys. GET only."""

import http.client
import json
import re
import socket
import ssl
from typing import Any, Dict, Optional
from urllib.parse import urlsplit

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import FAILED, UNSUPPORTED, VerbError, from_os_error
from netdiag.participant.netns import call_within
from netdiag.participant.redact import mask_userinfo, redact

LIMIT_BYTES = 64 << 20
DOCKER_SOCKET = "/var/run/docker.sock"

_DOCKER_PATHS = re.compile(
    r"^(/v[0-9.]+)?/("
    r"version|info|_ping|networks(/[^/?]+)?|containers/json|containers/[^/?]+/json|images/json|nodes(/[^/?]+)?"
    r"|services(/[^/?]+)?|tasks(/[^/?]+)?|distribution/[^?]+/json"
    r")(\?[^#\s]*)?$"
)
"""What is read of the engine. /swarm is not among them: its answer holds the join tokens."""

_ETCD_PATHS = re.compile(r"^/(version|health|v2/keys(/.*)?|v2/members|v2/stats/self)$")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def docker_get(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """One GET on the Docker Engine's unix socket; secrets are removed before the answer leaves (see `redact`).

    Parameters: ``path`` ("/info", "/networks/ID?verbose=true"; a "/v1.41" prefix is allowed); ``socket`` (a path or
    unix:// URL, default /var/run/docker.sock). Data: ``status`` (int), ``headers`` (names in lower case) and ``json``
    (of any status; an error of the engine is {"message": …}). Errors: unsupported (a path that is not read, a socket
    that is not unix), missing (no socket, or nobody listens on it), permission, timeout (an engine that hangs), failed
    (no JSON).
    """
    path = str(params["path"])
    where = str(params.get("socket") or DOCKER_SOCKET)
    if not _DOCKER_PATHS.match(path) or ".." in path:
        raise VerbError(UNSUPPORTED, "GET {}: not among what is read of the Docker Engine".format(path))
    if where.startswith("unix://"):
        where = where[len("unix://") :]
    if not where.startswith("/"):
        raise VerbError(UNSUPPORTED, "connect to {}: only a unix socket is asked".format(mask_userinfo(where)))
    tried = "GET {} from {}".format(path, where)
    connection = _UnixConnection(where, deadline.require(tried))
    answer = call_within(lambda: _get(connection, path, tried), deadline, tried)
    try:
        answer["json"] = redact(json.loads(answer.pop("text") or "null"))
    except ValueError:
        raise VerbError(FAILED, tried + ": the answer is no JSON")
    return answer


def http_get(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """One GET from an etcd (version, health, v2 keys, members); no redirects are followed, no proxy is used.

    Parameters: ``url`` (http or https, without user and password); ``ca_file``, ``cert_file``, ``key_file`` (optional
    paths on that host; without ``ca_file`` the server's certificate is not verified). Data: ``status``, ``headers``
    (names in lower case), ``text``. Errors: unsupported, missing (refused, or no such file), timeout, failed.
    """
    url = str(params["url"])
    parts = urlsplit(url)
    shown = mask_userinfo(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise VerbError(UNSUPPORTED, "GET {}: only http and https without credentials are asked".format(shown))
    if not _ETCD_PATHS.match(parts.path) or ".." in parts.path:
        raise VerbError(UNSUPPORTED, "GET {}: not among what is read of an etcd".format(shown))
    tried = "GET " + shown
    left = deadline.require(tried)
    target = parts.path + ("?" + parts.query if parts.query else "")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = _context(params, tried)
        connection = http.client.HTTPSConnection(parts.hostname, parts.port or 443, timeout=left, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=left)
    return call_within(lambda: _get(connection, target, tried), deadline, tried)


def _context(params: Dict[str, Any], tried: str) -> ssl.SSLContext:
    authority: Optional[str] = params.get("ca_file")
    try:
        context = ssl.create_default_context(cafile=authority)
        if not authority:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if params.get("cert_file"):
            context.load_cert_chain(str(params["cert_file"]), params.get("key_file"))
    except OSError as error:  # an SSLError is one, too
        raise from_os_error(error, tried)
    return context


def _get(connection: http.client.HTTPConnection, target: str, tried: str) -> Dict[str, Any]:
    try:
        connection.request("GET", target, headers={"Accept": "application/json"})
        response = connection.getresponse()
        body = response.read(LIMIT_BYTES + 1)
    except ssl.SSLError as error:
        raise VerbError(FAILED, "{}: {}".format(tried, error.reason or error))
    except OSError as error:
        raise from_os_error(error, tried)
    except http.client.HTTPException as error:
        raise VerbError(FAILED, "{}: {}".format(tried, str(error) or type(error).__name__))
    finally:
        connection.close()
    if len(body) > LIMIT_BYTES:
        raise VerbError(FAILED, "{}: more than {} bytes".format(tried, LIMIT_BYTES))
    headers = {name.lower(): value for name, value in response.getheaders()}
    return {"status": response.status, "headers": headers, "text": body.decode("utf-8", "replace")}
