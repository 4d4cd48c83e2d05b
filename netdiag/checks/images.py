"""Images that services will need on this host."""

from __future__ import annotations

import re
from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.commands import carry_over
from netdiag.checks.context import Check, Context
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Remedy, Subject
from netdiag.shell import operand, shell_text

# What the engine calls an architecture, by what uname calls it.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
}


# As the engine abbreviates ids; anything shorter is a name ("cafe" is one).
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{12,64}")


def _absent(error: str) -> bool:
    return any(words in error.lower() for words in ("not found", "manifest unknown", "name unknown", "does not exist"))


def full_name(image: str) -> str:
    """An image's name with its tag: ``latest`` where none is given, as the engine reads it."""
    last = image.rpartition("/")[2]
    return image if ":" in last or "@" in image else f"{image}:latest"


def _short(image: str) -> str:
    for prefix in ("docker.io/library/", "docker.io/"):
        if image.startswith(prefix):
            return image[len(prefix) :]
    return image


def _images(ctx: Context) -> Iterator[Found]:
    check = "swarm.image"
    engine = ctx.facts.engine.value
    if engine is None:
        return
    present = {_short(tag) for image in engine.images for tag in (*image.tags, *image.digests)}
    asked = {one.image: one for one in (ctx.observed.registry if ctx.observed is not None else ())}
    for name in ctx.options.images:
        subject = Subject(host=ctx.host, image=name)
        if _short(full_name(name)) in present or (
            _ID.fullmatch(name)
            and any(
                image.id.removeprefix("sha256:").startswith(name.removeprefix("sha256:")) for image in engine.images
            )
        ):
            yield ctx.ok(check, f"the image {name} is on this host", subject=subject)
            continue
        registry = asked.get(name)
        if registry is None or registry.obtainable is None:
            reason = registry.error if registry is not None and registry.error else "the registry was not asked"
            yield ctx.unknown(
                check, f"the image {name} is not on this host; whether it can be pulled", reason, subject=subject
            )
            continue
        wanted = _ARCHITECTURES.get(engine.architecture, engine.architecture)
        fits = not registry.architectures or not wanted or wanted in registry.architectures
        if registry.obtainable and fits:
            yield ctx.ok(check, f"the image {name} is not here yet, and the registry offers it", subject=subject)
            continue
        why = (
            f"the registry has it for {', '.join(registry.architectures)} only, and this host is {wanted}"
            if registry.obtainable
            else f"no registry gives it: {registry.error}"
        )
        seen = Evidence("engine", f"{name}: not in this engine's images; {why}", {})
        yield ctx.problem(
            check,
            f"the image {name} is not on this host and cannot be pulled: tasks here will fail with 'No such image'",
            always_fails=True,
            subject=subject,
            evidence=[seen],
            cause=cause(
                "swarm.image-missing",
                host=ctx.host,
                object={"kind": "image", "name": name},
                # A registry that says no, or none that answers now, may say yes to the credentials of a service.
                confidence=Confidence.PROVEN if registry.obtainable or _absent(registry.error) else Confidence.LIKELY,
                explanation=f"{name} is not among this engine's images, and {why}.",
                evidence=(seen,),
                remedy=(
                    Remedy(
                        host="the host that has the image",
                        summary="carry it over (or push it to a registry that all nodes reach)",
                        commands=(carry_over(name, _target(ctx)),),
                        undo=(shell_text(["docker", "image", "rm", *operand(name)]),),
                    ),
                ),
            ),
        )


def _target(ctx: Context) -> str:
    return next(iter(ctx.own_addresses()), ctx.host)


CHECKS = (
    Check(
        id="swarm.image",
        title="The images are here or can be pulled",
        explains=(
            "A manager does not send images to workers. An image that exists only where it was built makes tasks elsewhere"
            " fail with 'No such image'."
        ),
        remedy="Push it to a registry and use --with-registry-auth, or copy it with docker save and docker load.",
        evaluate=_images,
        needs=("engine",),
    ),
)
