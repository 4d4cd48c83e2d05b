"""A running lab: what tests and the command line work with.

with Lab.up(load_topology("swarm2"), name="t-join") as lab:
    lab.break_("drop", host="manager", chain="INPUT", proto="tcp", dport=2377)
    outcome = lab.swarm_join("worker", "manager")
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import msgspec

from netdiag.errors import LabError, UsageError
from netdiag.lab import cgroups, engine, faults, image, state, swarm
from netdiag.lab.fabric import connect
from netdiag.lab.host import Host
from netdiag.lab.process import Process, end, marked
from netdiag.lab.root import find
from netdiag.lab.spawn import spawn
from netdiag.lab.state import ActiveFault, LabState
from netdiag.lab.swarm import JoinOutcome
from netdiag.lab.topology import FABRIC, NAME, SwarmRole, Topology, no_such

Say = Callable[[str], None]


def quiet(_line: str) -> None:
    """Where progress goes that nobody reads."""


class Lab:
    """One running lab; make it with `up` or find it with `attach`."""

    def __init__(self, current: LabState) -> None:
        self._state = current
        topology = current.topology
        self.hosts: dict[str, Host] = {
            plan.name: Host(current.name, plan.name, plan, topology.uplinks(plan.name), current.hosts[plan.name])
            for plan in topology.host
        }
        self.fabric = Host(current.name, FABRIC, None, (), current.hosts[FABRIC])

    # ---- life

    @classmethod
    def up(cls, topology: Topology, name: str | None = None, *, detached: bool = False, say: Say = quiet) -> Lab:
        """Start a lab and wait until every engine answers and the swarm is whole.

        Args:
            topology: what it consists of.
            name: what it is called, the topology's name by default; small letters, digits and ``-``.
            detached: it stays until ``down``; otherwise it ends with this process, however that ends.
            say: receives progress, a line each.

        Raises:
            UsageError: the name is taken or cannot be one.
            LabToolMissing: not root, or no tools.
            LabError: something did not start; what had started is gone again.
        """
        name = topology.name if name is None else name
        if not NAME.fullmatch(name):
            raise UsageError(f"lab name {name!r}: small letters, digits and - only, at most 32")
        root = find()
        with state.locked():
            sweep()
            if state.load(name) is not None:
                raise UsageError(f"lab {name!r} is up already (netdiag lab down {name} ends it)")
            current = LabState(name=name, topology=topology, owner=Process.of(os.getpid()))
            state.save(current)
        try:
            say(f"starting {len(topology.host)} hosts")
            with ThreadPoolExecutor(max_workers=len(topology.host) + 1) as pool:
                texts = _hosts_files(topology)
                jobs = {
                    host: pool.submit(spawn, name, _hostname(topology, host), text, root)
                    for host, text in texts.items()
                }
            current = msgspec.structs.replace(current, hosts={host: job.result() for host, job in jobs.items()})
            state.save(current)
            lab = cls(current)
            connect(topology, lab.fabric, lab.hosts)
            lab._start_engines(say)
            lab._form_swarm(say)
            lab._complete(detached)
        except BaseException:
            with state.locked():
                destroy(name)
            raise
        return lab

    @classmethod
    def attach(cls, name: str) -> Lab:
        """A lab that is up, whoever started it; LabError with the nearest names if there is none."""
        current = state.load(name)
        if current is None:
            raise LabError(no_such("lab", name, [other.name for other in state.load_all()]))
        if current.orphaned or not current.complete:
            raise LabError(f"lab {name!r} did not come up or its owner has ended: netdiag lab down {name}")
        return cls(current)

    def down(self) -> None:
        """End the lab; nothing of it is left. LabError if the kernel keeps something."""
        for host in self._everyone():
            host.close()
        with state.locked():
            destroy(self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def _complete(self, detached: bool) -> None:
        """Say in the state file that it is up, and let go of it if it is to stay."""
        owner = None if detached else self._state.owner
        self._state = msgspec.structs.replace(self._state, owner=owner, complete=True)
        # In this order: killed in between, the lab is one that stays and that lab down ends.
        state.save(self._state)
        if detached:
            for host in self._everyone():
                os.kill(host.pid, signal.SIGUSR1)

    # ---- hosts

    @property
    def name(self) -> str:
        """What the lab is called."""
        return self._state.name

    @property
    def topology(self) -> Topology:
        """What it was made from."""
        return self._state.topology

    def host(self, name: str) -> Host:
        """A host by its name in the lab, or ``fabric``; LabError with the nearest names."""
        if name == FABRIC:
            return self.fabric
        try:
            return self.hosts[name]
        except KeyError:
            raise LabError(no_such("host", name, [*self.hosts, FABRIC]) + f" (lab {self.name})") from None

    def _everyone(self) -> list[Host]:
        return [self.fabric, *self.hosts.values()]

    def _with_engine(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.plan is not None and host.plan.engine]

    # ---- engines and swarm

    def start_engine(self, name: str) -> None:
        """Start a host's engine and wait until it answers."""
        engine.start(self.host(name))

    def stop_engine(self, name: str, *, kill: bool = False) -> None:
        """Stop a host's engine and wait until it has ended; ``kill``: as with kill -9."""
        engine.stop(self.host(name), kill=kill)

    def restart_engine(self, name: str) -> None:
        """Stop a host's engine and start it again."""
        self.stop_engine(name)
        self.start_engine(name)

    def swarm_init(self, name: str) -> None:
        """Make a host the first manager of a new swarm."""
        swarm.initialise(self.host(name))

    def swarm_join(
        self,
        name: str,
        manager: str,
        role: str = "worker",
        timeout_s: float = swarm.JOIN_TIMEOUT_S,
        token: str | None = None,
    ) -> JoinOutcome:
        """Run ``docker swarm join`` on a host and say what it said; ``token`` replaces the manager's own."""
        return swarm.join(self.host(name), self.host(manager), SwarmRole(role), timeout_s, token)

    def await_settled(self, *names: str) -> None:
        """Wait until these members of the swarm have its ingress network, after which nothing changes by itself."""
        for name in names:
            swarm.await_settled(self.host(name))

    def swarm_leave(self, name: str) -> None:
        """Leave the swarm by force; the manager keeps the node's record."""
        swarm.leave(self.host(name))

    def worker_token(self, manager: str) -> str:
        """The token with which workers join."""
        return swarm.token(self.host(manager), SwarmRole.WORKER)

    def manager_token(self, manager: str) -> str:
        """The token with which managers join."""
        return swarm.token(self.host(manager), SwarmRole.MANAGER)

    def reset_swarm(self) -> None:
        """Leave everywhere, then form the swarm of the topology anew; faults stay."""
        _each(swarm.leave, self._with_engine())
        self._form_swarm(quiet)

    def _start_engines(self, say: Say) -> None:
        hosts = self._with_engine()
        if not hosts:
            return
        say(f"starting {len(hosts)} engines")
        _each(engine.start, hosts)
        wanting = [host for host in hosts if host.plan is not None and host.plan.images]
        # Made once: an image is the same on every host, its keys included.
        names = sorted({name for host in wanting if host.plan is not None for name in host.plan.images})
        archives = {name: image.archive(name, find()) for name in names}

        def load(host: Host) -> None:
            for name in host.plan.images if host.plan is not None else ():
                host.docker.load_image(archives[name])

        _each(load, wanting)

    def _form_swarm(self, say: Say) -> None:
        members = {host: role for host in self.hosts.values() if host.plan is not None and (role := host.plan.swarm)}
        managers = [host for host, role in members.items() if role is SwarmRole.MANAGER]
        if not managers:
            return
        say(f"forming a swarm of {len(members)}")
        first = managers[0]
        swarm.initialise(first)

        def enter(host: Host) -> None:
            outcome = swarm.join(host, first, members[host])
            if not outcome.joined:
                raise LabError(f"{host.name} does not join: {outcome.message}")

        _each(enter, [host for host in members if host is not first])
        swarm.await_ready(first, list(members))

    # ---- faults

    def faults(self) -> tuple[ActiveFault, ...]:
        """The faults that are in now, the oldest first."""
        current = state.load(self.name)
        return current.faults if current is not None else ()

    def break_(self, fault: str, **parameters: object) -> ActiveFault:
        """Inject a fault of `netdiag.lab.faults.FAULTS`; parameters as ``lab break`` takes them.

        Raises:
            UsageError: no such fault or parameter, or a value that it does not accept.
            LabError: a command in the host refused it; nothing has changed then.
        """
        spec, values = faults.parse(fault, {key: str(value) for key, value in parameters.items() if value is not None})
        work = faults.Work(self)
        try:
            spec.apply(work, values)
        except BaseException:
            faults.run_steps(self, work.undo)
            raise
        with state.locked():
            current = self._load()
            number = max((active.number for active in current.faults), default=0) + 1
            active = ActiveFault(number=number, fault=fault, parameters=dict(values), undo=work.undo)
            state.save(msgspec.structs.replace(current, faults=(*current.faults, active)))
        return active

    def heal(self, fault: ActiveFault | int) -> None:
        """Undo a fault, given by its handle or number; LabError if it is not in, or does not go."""
        number = fault if isinstance(fault, int) else fault.number
        active = next((active for active in self.faults() if active.number == number), None)
        if active is None:
            known = ", ".join(f"{other.number} ({other})" for other in self.faults())
            raise LabError(f"no fault {number} in lab {self.name}: there is {known or 'none'}")
        faults.run_steps(self, active.undo)
        with state.locked():
            current = self._load()
            left = tuple(other for other in current.faults if other.number != number)
            state.save(msgspec.structs.replace(current, faults=left))

    def heal_all(self) -> None:
        """Undo every fault, the newest first."""
        for active in reversed(self.faults()):
            self.heal(active)

    def _load(self) -> LabState:
        current = state.load(self.name)
        if current is None:
            raise LabError(f"lab {self.name} has gone")
        return current


def _each(work: Callable[[Host], object], hosts: Iterable[Host]) -> None:
    """Do the same on several hosts at once; the first error is raised when all have ended."""
    hosts = list(hosts)
    if not hosts:
        return
    with ThreadPoolExecutor(max_workers=len(hosts)) as pool:
        jobs = [pool.submit(work, host) for host in hosts]
    for job in jobs:
        job.result()


def _hostname(topology: Topology, name: str) -> str:
    return name if name == FABRIC else topology.plan(name).hostname or name


def _hosts_files(topology: Topology) -> dict[str, str]:
    """/etc/hosts of every host and of the fabric: each knows itself, as an installer leaves it."""
    texts = {FABRIC: "127.0.0.1 localhost\n"}
    for plan in topology.host:
        own = _hostname(topology, plan.name)
        texts[plan.name] = f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 {own}\n"
    return texts


def destroy(name: str) -> None:
    """End whatever is left of a lab, whether or not it has a state file; the caller holds the lock.

    Raises:
        LabError: the kernel keeps a process or a control group.
    """
    current = state.load(name)
    # The inits first: with each of them the kernel ends all that is in its namespace.
    end(current.hosts.values() if current is not None else ())
    end(process for process, lab in marked() if lab == name and process.pid != os.getpid())
    for group in cgroups.lab_groups(name):
        cgroups.remove(group)
    state.forget(name)


def sweep() -> list[str]:
    """End the labs that nobody owns any more; the caller holds the lock. Gives their names."""
    lost = {path.stem for path in state.DIRECTORY.glob("*.json")}
    lost |= {lab for _, lab in marked()}
    lost |= {cgroups.lab_of(group) for group in cgroups.lab_groups()}
    lost -= state.claimed()
    for name in sorted(lost):
        destroy(name)
    return sorted(lost)


def end_labs(name: str | None = None) -> list[str]:
    """End one lab by name, or all of this machine; labs that nobody owns any more go in either case.

    Returns:
        The names of those that are down now.

    Raises:
        LabError: there is no such lab (nearest names), or the kernel keeps something of one.
    """
    with state.locked():
        ended = sweep()
        known = sorted(state.claimed())
        if name is not None and name not in known and name not in ended:
            raise LabError(no_such("lab", name, known))
        for each in known if name is None else {name} & set(known):
            destroy(each)
            ended.append(each)
    return ended
