"""Rules that do not run here, read for a command: from files, or from a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netdiag.cli.packet_options import named_namespace
from netdiag.cli.rule_sources import read_text

if TYPE_CHECKING:
    from netdiag.host.allow_saved import Saved


def of_files(files: tuple[Path, ...], options: dict[str, Any]) -> tuple[Saved, str, tuple[str, ...]]:
    """The rules of files, whose they are (a host of which nothing is known), and what was not understood, a line each."""
    from netdiag.firewall.explain import read_rule_file
    from netdiag.firewall.rule_files import plain_of, rule_sets_of
    from netdiag.host.allow_saved import Saved
    from netdiag.model.facts import HOST

    if any(named_namespace(options)):
        raise click.UsageError("--rules says whose rules: --container and --netns name those of this host")
    texts = [read_text(file) for file in files]
    read = [read_rule_file(text) for text in texts]
    names = [f"{file}, " if len(files) > 1 else "" for file in files]
    problems = tuple(f"{name}{problem}" for name, one in zip(names, read, strict=True) for problem in one.problems)
    plain = next((found for text in texts if (found := plain_of(text)) is not None), None)
    rule_sets = tuple(rules for text in texts for rules in rule_sets_of(text))
    if not any(one.tables for one in read):
        what = f"{files[0]} holds no rules" if len(files) == 1 else "the files hold no rules"
        raise click.UsageError(f"{what} that iptables-save prints{f': {problems[0]}' if problems else ''}")
    return Saved(rule_sets=rule_sets, plain=plain), HOST, problems


def of_bundle(bundle: Path, options: dict[str, Any]) -> tuple[Saved, str, tuple[str, ...]]:
    """The rules of a bundle's host, or of one of its namespaces; what could not be read or understood, a line each."""
    from netdiag.facts.assemble import replay
    from netdiag.facts.explain_host import explainer_of
    from netdiag.facts.namespace_names import of_container, of_namespace
    from netdiag.host.allow_saved import Saved
    from netdiag.host.bundles import read_bundle
    from netdiag.model.facts import HOST

    container, netns = named_namespace(options)
    facts = replay(read_bundle(bundle))
    namespace = of_container(facts, container) if container else of_namespace(facts, netns) if netns else HOST
    _, problems = explainer_of(facts, namespace)
    return Saved(rule_sets=(facts.firewall.value or {}).get(namespace, ()), facts=facts), namespace, problems
