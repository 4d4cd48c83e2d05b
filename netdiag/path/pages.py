"""What each finding of a diagnosis means: its page of ``netdiag explain``."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of finding; as `netdiag.checks.context.Check`, which a diagnosis has no need to run."""

    id: str
    title: str
    explains: str
    remedy: str


PAGES: Mapping[str, Page] = {
    page.id: page
    for page in (
        Page(
            id="path.attempt",
            title="What the flow itself meets",
            explains="One attempt from the source's own network namespace, as the user's program makes it.",
            remedy="See the cause.",
        ),
        Page(
            id="path.loss",
            title="Where the flow is lost",
            explains=(
                "The attempt is watched at every place between the two ends. The last place where it was seen and the"
                " next one where it was not are the ends of the gap; filters, entries and listeners there are asked."
            ),
            remedy="Run the command of the cause on the host that it names, then diagnose again.",
        ),
        Page(
            id="path.way",
            title="The flow passes",
            explains="Requests and answers were seen at every place that could be watched.",
            remedy="Nothing: it works now.",
        ),
        Page(
            id="path.entries",
            title="Entries of the overlay are as the engine knows them",
            explains=(
                "A missing entry is made up for by what the other side sends first, so that it works now and not always."
            ),
            remedy="Set the entry, or restart the task on the other host.",
        ),
    )
}
"""By the id that findings carry."""
