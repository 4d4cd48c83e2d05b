"""The published form of the participant's stream: complete, current, and what is really spoken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from netdiag.cli.schema import participant_page
from netdiag.model import wire
from netdiag.participant import errors, stream
from netdiag.participant.commands import READ_ONLY_COMMANDS
from netdiag.participant.verbs import VERBS
from netdiag.report import participant_page as page
from netdiag.report.schema import schema

ROOT = Path(__file__).parents[3]
SAID = """
import json, sys
from netdiag.participant.stream import main
main()
"""


def test_the_reference_is_current():
    page_file, schema_file = ROOT / "docs/reference/participant.md", ROOT / "docs/reference/participant.schema.json"
    told = "netdiag schema participant --markdown > docs/reference/participant.md"
    assert page_file.read_text("utf-8") == participant_page(), told
    told = "netdiag schema participant > docs/reference/participant.schema.json"
    assert schema_file.read_bytes() == schema("participant"), told


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_its_entry_with_all_parts(name):
    verb = page.parse(name, VERBS[name].__doc__)
    assert all((verb.what, verb.parameters, verb.data, verb.errors))
    text = participant_page()
    assert f"\n| [{name}](#{name}) | {verb.what}" in text
    assert f"\n### {name}\n\n{verb.what}" in text


def test_every_command_and_every_kind_of_error_is_there():
    text = participant_page()
    assert all(f"\n| `{' '.join(words)}" in text for words, _, _ in READ_ONLY_COMMANDS)
    assert set(page._ERRORS) == set(errors.KINDS)


def test_a_verb_that_does_not_say_its_errors_is_refused():
    with pytest.raises(ValueError, match="verb x: its docstring has to say"):
        page.parse("x", "What it does. Parameters: none. Data: none.")


def test_both_sides_have_the_same_word():
    assert wire.PROTOCOL == stream.PROTOCOL


def test_what_is_really_spoken_fits_the_schema():
    validator = jsonschema.Draft202012Validator(json.loads(schema("participant")))
    validator.check_schema(validator.schema)
    requests = [
        {"id": 1, "verb": "identity", "params": {}, "timeout_s": 5.0},
        {"id": 2, "verb": "file", "params": {"path": "/none"}, "timeout_s": 5.0},
        {"id": 3, "verb": "netlink-dump", "params": {"type": 18}, "timeout_s": 5.0},
        {"ping": 7},
    ]
    for each in requests:
        validator.validate(each)
    with subprocess.Popen(
        [sys.executable, "-c", SAID], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=os.environ
    ) as process:
        lines = [*map(json.dumps, requests), "no json", "[1]"]
        process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        process.stdin.flush()
        heard = [json.loads(process.stdout.readline()) for _ in range(1 + len(lines))]
        process.stdin.close()
        assert process.wait(10) == 0
    for each in heard:
        validator.validate(each)
    assert heard[0]["protocol"] == wire.PROTOCOL
    assert {each["id"] for each in heard if "data" in each} == {1, 3}
    assert [each["error"]["kind"] for each in heard if each.get("id") == 2] == ["missing"]
    assert {"pong": 7} in heard
    assert len([each for each in heard if "error" in each and "id" not in each]) == 2


@pytest.mark.parametrize(
    "line",
    [
        {"protocol": "netdiag/participant/2", "python": [3, 6, 0], "uid": 0},
        {"id": "1", "data": {}, "duration_s": 0.1},
        {"id": 1, "error": {"kind": "odd", "text": "x"}},
        {},
    ],
)
def test_the_schema_refuses_what_is_no_line(line):
    assert not jsonschema.Draft202012Validator(json.loads(schema("participant"))).is_valid(line)
