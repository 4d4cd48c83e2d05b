"""The report as one JSON document, and back."""

from __future__ import annotations

import msgspec

from netdiag.errors import UsageError
from netdiag.model.report import SCHEMA, Report


class _Header(msgspec.Struct):
    schema: str = ""


def encode(report: Report) -> bytes:
    """The JSON document, indented, in the order of the types, with a line end; UTF-8 whatever the locale."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def decode(document: bytes) -> Report:
    """A report out of its JSON document; fields that a newer netdiag added are passed over.

    Raises:
        UsageError: It is no JSON, no report, or a report of another schema.
    """
    try:
        schema = msgspec.json.decode(document, type=_Header).schema
        if schema != SCHEMA:
            raise UsageError(f"not a report that this netdiag reads: its schema is {schema!r}, wanted {SCHEMA!r}")
        report = msgspec.json.decode(document, type=Report)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"not a report made by --output json: {error}") from error
    if any(one.cause is not None and not 0 <= one.cause < len(report.causes) for one in report.findings):
        raise UsageError("not a report made by --output json: a finding names a cause that is not there")
    return report
