"""Which namespace an operator means: by the name of a container, of a network, of a mount, or by its path."""

from __future__ import annotations

import difflib

from netdiag.errors import UsageError
from netdiag.model.engine import Container
from netdiag.model.facts import HOST, Facts, Namespace

_MOUNTS = ("/run/netns/", "/var/run/netns/", "/run/docker/netns/", "/var/run/docker/netns/")


def of_container(facts: Facts, name: str) -> str:
    """The namespace's id of a running container, given by its name or by the beginning of its id.

    Raises UsageError for none, with the nearest names; for several; for one that does not run.
    """
    namespaces = facts.namespaces.value or {}
    engine = facts.engine.value
    containers = engine.containers if engine is not None else ()
    named = [each for each in containers if each.name == name] or [
        each for each in containers if len(name) >= 4 and each.id.startswith(name)
    ]
    if len(named) > 1:
        raise UsageError(f"--container {name}: {', '.join(each.name for each in named)} begin with it")
    if named:
        return _running(namespaces, named[0])
    by_mark = [
        each.id for each in namespaces.values() if len(name) >= 4 and each.owner_id.startswith(name) and each.pids
    ]
    if f"container:{name}" in namespaces:
        return f"container:{name}"
    if len(by_mark) == 1:
        return by_mark[0]
    known = sorted(
        {each.name for each in containers} | {key[10:] for key in namespaces if key.startswith("container:")}
    )
    hint = f"the engine cannot be asked ({facts.engine.absent.text})" if facts.engine.absent is not None else ""
    raise UsageError(
        f"--container {name}: no such container; " + (_nearest(name, known) if known else hint or "none runs")
    )


def of_namespace(facts: Facts, name: str) -> str:
    """The id of a namespace, given by its id, by what a mount of it is called, or by a path that setns takes.

    Raises UsageError for none, with the nearest ones.
    """
    namespaces = facts.namespaces.value or {}
    if name in namespaces or name == HOST:
        return name
    mounted = {each.id for each in namespaces.values() for path in _mounts(name) if each.path == path}
    suffix = {key for key in namespaces if key.partition(":")[2] == name}
    found = mounted or suffix
    if len(found) == 1:
        return found.pop()
    if found:
        raise UsageError(f"--netns {name}: {' or '.join(sorted(found))}")
    raise UsageError(f"--netns {name}: no such namespace in use; {_nearest(name, list(namespaces))}")


def _mounts(name: str) -> list[str]:
    return [name] if name.startswith("/") else [mount + name for mount in _MOUNTS]


def _running(namespaces: dict[str, Namespace], container: Container) -> str:
    if not container.pid:
        raise UsageError(f"--container {container.name}: it does not run ({container.state or 'no process'})")
    for namespace in namespaces.values():
        # A container may share the namespace of the host or of another one.
        if container.pid in namespace.pids or (namespace.owner_id and namespace.owner_id == container.id):
            return namespace.id
    raise UsageError(f"--container {container.name}: its network namespace could not be found")


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f"did you mean {' or '.join(near)}?" if near else f"there is {', '.join(known[:12]) or 'none'}"
