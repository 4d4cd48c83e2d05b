"""What this host says of Calico: where its datastore is, and the v1 keys that an etcd v2 holds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from netdiag.facts.context import Context, absence, files_request, missing, texts
from netdiag.model.facts import Absence, AbsenceKind, Calico, Section
from netdiag.model.wire import Answer, Gather, Request

_CONFIGURATION = "/etc/calico/calicoctl.cfg"
_FILES = ("ETCD_CA_CERT_FILE", "ETCD_CERT_FILE", "ETCD_KEY_FILE")
_SETTING = re.compile(r"^\s*(etcd[A-Za-z]+|datastoreType)\s*:\s*[\"']?([^\"'#\s]+)", re.MULTILINE)
_NAMES = {
    "etcdEndpoints": "ETCD_ENDPOINTS",
    "etcdCACertFile": "ETCD_CA_CERT_FILE",
    "etcdCertFile": "ETCD_CERT_FILE",
    "etcdKeyFile": "ETCD_KEY_FILE",
}
_SECRET = re.compile(r"password|secret|token|credential", re.IGNORECASE)
WITHHELD = "(withheld)"


def gather_calico(context: Context) -> Gather[Section[Calico]]:
    """The datastore that calicoctl would use on this host: ETCD_ENDPOINTS, ETCD_AUTHORITY, calicoctl.cfg."""
    (answer,) = yield [files_request([f"{_CONFIGURATION[:-1]}[g]"])]
    if answer.data is None and not context.options.etcd:
        return Section(absent=absence(answer))  # the file was not read: what it says is not known
    settings, configured_by = _settings(context.options.etcd, texts(answer).get(_CONFIGURATION, ""))
    endpoints = _endpoints(settings)
    if not endpoints:
        text = f"no datastore of Calico is configured: neither ETCD_ENDPOINTS nor ETCD_AUTHORITY nor {_CONFIGURATION}"
        return Section(absent=missing(text))
    extra = {name[5:].lower().replace("ca_cert", "ca"): settings[name] for name in _FILES if settings.get(name)}
    answers = yield [
        Request("http-get", {"url": f"{endpoint}/v2/keys/calico?recursive=true", **extra}, 2.0)
        for endpoint in endpoints
    ]
    partial: dict[str, Absence] = {}
    for endpoint, reply in zip(endpoints, answers, strict=True):
        keys, reason = _keys(reply)
        if reason is None:
            return Section(
                value=Calico(endpoints=endpoints, configured_by=configured_by, version="v1" if keys else "", keys=keys),
                partial=partial,
            )
        partial[endpoint] = reason
    return Section(value=Calico(endpoints=endpoints, configured_by=configured_by), partial=partial)


def _settings(variables: Mapping[str, str], text: str) -> tuple[dict[str, str], str]:
    """ETCD_* settings and where they came from; variables win over the file, as calicoctl has it."""
    for name in ("ETCD_ENDPOINTS", "ETCD_AUTHORITY"):
        if variables.get(name):
            return dict(variables), name
    found = {_NAMES[name]: value for name, value in _SETTING.findall(text) if name in _NAMES}
    return found, _CONFIGURATION


def _endpoints(settings: Mapping[str, str]) -> tuple[str, ...]:
    if settings.get("ETCD_ENDPOINTS"):
        listed = [item.strip().rstrip("/") for item in settings["ETCD_ENDPOINTS"].split(",") if item.strip()]
    elif settings.get("ETCD_AUTHORITY"):
        listed = [f"{settings.get('ETCD_SCHEME') or 'http'}://{settings['ETCD_AUTHORITY']}"]
    else:
        listed = []
    # A user and password in a URL stay on the host.
    return tuple(re.sub(r"//[^/@]*@", "//", item) for item in listed)


def _keys(answer: Answer) -> tuple[dict[str, Any], Absence | None]:
    if answer.data is None:
        return {}, absence(answer)
    try:
        body = json.loads(answer.data["text"])
    except ValueError:
        text = "the datastore's answer is no JSON: its v2 API is switched off, or it is no etcd"
        return {}, Absence(kind=AbsenceKind.FAILED, text=text)
    if isinstance(body, dict) and body.get("errorCode") == 100:  # key not found: an etcd without Calico
        return {}, None
    if answer.data["status"] != 200 or not isinstance(body, dict) or not isinstance(body.get("node"), dict):
        said = str(body.get("message", "")) if isinstance(body, dict) else ""
        return {}, Absence(
            kind=AbsenceKind.FAILED, text=f"the datastore answered {answer.data['status']} {said}".rstrip()
        )
    keys: dict[str, Any] = {}
    pending = [body["node"]]
    while pending:
        node = pending.pop()
        pending.extend(item for item in node.get("nodes") or () if isinstance(item, dict))
        if "value" in node:
            keys[str(node.get("key"))] = _value(str(node.get("key")), node["value"])
    return dict(sorted(keys.items())), None


def _value(key: str, value: object) -> object:
    """A key's value as JSON where it is some; what may be a password is replaced."""
    if _SECRET.search(key):
        return WITHHELD
    try:
        parsed = json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value
    except ValueError:
        parsed = value
    return without_secrets(parsed)


def redacted_configuration(text: str) -> str:
    """calicoctl.cfg reduced to the settings that are read here: it may hold a password and keys."""
    lines = (line for line in text.splitlines() if (match := _SETTING.match(line)) and match.group(1) in _NAMES)
    return "\n".join(re.sub(r"//[^/@]*@", "//", line) for line in lines)


def redacted_keys(text: str) -> str:
    """An etcd's v2 answer with the values of what may be a secret replaced; text that is no JSON becomes empty."""
    try:
        body = json.loads(text)
    except ValueError:
        return ""
    pending = [body]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            pending.extend(item for item in node.values() if isinstance(item, dict | list))
            if "value" in node:
                value = _value(str(node.get("key")), node["value"])
                node["value"] = value if isinstance(value, str) else json.dumps(value)
    return json.dumps(body)


def without_secrets(value: object) -> object:
    """JSON values with those of members that are named like a secret replaced."""
    if isinstance(value, dict):
        return {name: WITHHELD if _SECRET.search(name) else without_secrets(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return value
