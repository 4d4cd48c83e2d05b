import importlib
import json
import pkgutil
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import msgspec
import pytest

from netdiag import model
from netdiag.errors import UsageError
from netdiag.model.found import Found
from netdiag.model.report import Evidence, State, Subject
from netdiag.report import document, html, junit
from netdiag.report.assemble import build_report
from netdiag.report.schema import DOCUMENTS, schema
from tests.unit.report.samples import clean, failing

ROOT = Path(__file__).parents[3]
SAMPLES = [pytest.param(failing(), id="failing"), pytest.param(clean(), id="clean")]


def hostile():
    bad = "<script>alert(1)</script>&\"'\x1b[2J\x00\ufffe"
    return build_report(
        command=bad,
        host=bad,
        started="2026-03-14T02:57:11Z",
        duration_s=0,
        found=[
            Found(
                check="c.d",
                state=State.FAIL,
                subject=Subject(host=bad, container=bad),
                summary=bad,
                evidence=(Evidence(bad, bad, {"x": bad}),),
            )
        ],
    )


# --- JSON ---


@pytest.mark.parametrize("report", SAMPLES)
def test_json_there_and_back(report):
    encoded = document.encode(report)
    assert encoded.endswith(b"}\n")
    assert document.decode(encoded) == report
    assert encoded == document.encode(report)
    head = list(json.loads(encoded))
    assert head[:6] == ["schema", "command", "host", "started", "duration_s", "verdict"]


def test_json_of_a_newer_netdiag_is_read():
    data = json.loads(document.encode(failing()))
    data["mood"] = "good"
    data["causes"][0]["weight"] = 3
    assert document.decode(json.dumps(data).encode()) == failing()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not a report"),
        (b"{", "not a report"),
        (b"[]", "not a report"),
        (b'"\xff"', "not a report"),
        (b"{}", "its schema is ''"),
        (b'{"schema": "netdiag/report/2"}', "its schema is 'netdiag/report/2'"),
        (b'{"schema": "netdiag/report/1"}', "missing required field"),
    ],
)
def test_what_is_no_report_is_refused_in_one_line(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        document.decode(text)
    assert "\n" not in str(caught.value)


def test_an_index_into_nowhere_is_refused():
    report = failing()
    findings = (msgspec.structs.replace(report.findings[0], cause=7), *report.findings[1:])
    with pytest.raises(UsageError, match="cause"):
        document.decode(document.encode(msgspec.structs.replace(report, findings=findings)))


# --- JSON schema ---


@pytest.mark.parametrize("report", SAMPLES)
def test_reports_fit_their_schema(report):
    made = json.loads(schema("report"))
    jsonschema.Draft202012Validator.check_schema(made)
    jsonschema.Draft202012Validator(made).validate(json.loads(document.encode(report)))


def test_the_schema_refuses_what_is_no_report():
    validator = jsonschema.Draft202012Validator(json.loads(schema("report")))
    data = json.loads(document.encode(failing()))
    for broken in (data | {"verdict": "bad"}, data | {"schema": "netdiag/report/2"}, {"schema": "netdiag/report/1"}):
        assert not validator.is_valid(broken)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_schema_is_one(name):
    made = json.loads(schema(name))
    jsonschema.Draft202012Validator.check_schema(made)
    assert made["$id"] == DOCUMENTS[name].id
    assert made["title"]


# Facts are no document that others write or read by themselves: their schema comes with the tool.
@pytest.mark.parametrize("name", sorted(set(DOCUMENTS) - {"facts"}))
def test_the_schema_in_the_reference_is_current(name):
    file = f"docs/reference/{name}.schema.json"
    assert (ROOT / file).is_file(), f"netdiag schema {name} > {file}"
    assert (ROOT / file).read_bytes() == schema(name), f"netdiag schema {name} > {file}"


def test_every_document_of_the_model_has_a_schema():
    modules = [importlib.import_module(found.name) for found in pkgutil.iter_modules(model.__path__, "netdiag.model.")]
    named = {module.SCHEMA for module in modules if hasattr(module, "SCHEMA")}
    assert named == {document.id for document in DOCUMENTS.values()}
    assert all(re.fullmatch(r"netdiag/[a-z-]+/[0-9]+", name) for name in named)
    assert all(document.id.split("/")[1] == name for name, document in DOCUMENTS.items())


def test_no_document_is_named_outside_the_model():
    """A document that some command writes by hand has neither a type nor a schema."""
    # The output of a shell script is lines of text, for which no JSON schema can be.
    others = {"netdiag/bundle/1": "netdiag/facts/bundle.py", "netdiag/script/1": "netdiag/facts/script_text.py"}
    found = {
        (name, str(file.relative_to(ROOT)))
        for file in (ROOT / "netdiag").rglob("*.py")
        for name in re.findall(r'"(netdiag/[a-z-]+/[0-9]+)"', file.read_text(encoding="utf-8"))
        if not file.is_relative_to(ROOT / "netdiag/model") and not re.search(rf'PROTOCOL = "{name}"', file.read_text())
    }
    assert found == set(others.items())


# --- JUnit ---


def test_junit_has_a_case_for_each_finding():
    report = failing()
    suite = ET.fromstring(junit.render(report)).find("testsuite")
    cases = suite.findall("testcase")
    assert len(cases) == len(report.findings) == int(suite.get("tests"))
    kinds = [next((child.tag for child in case), "ok") for case in cases]
    wanted = {State.FAIL: "failure", State.UNKNOWN: "error", State.SKIP: "skipped", State.WARN: "system-out"}
    assert kinds == [wanted.get(finding.state, "ok") for finding in report.findings]
    assert [suite.get(name) for name in ("failures", "errors", "skipped")] == ["1", "1", "1"]
    failure = cases[0].find("failure")
    assert failure.get("type") == "firewall.rule"
    assert "iptables -I INPUT 5 -p tcp" in failure.text
    assert suite.get("timestamp") == "2026-03-14T02:57:11"


def test_junit_names_are_unique():
    suite = ET.fromstring(junit.render(failing())).find("testsuite")
    names = [(case.get("classname"), case.get("name")) for case in suite.findall("testcase")]
    assert len(names) == len(set(names))


def test_junit_of_hostile_names_is_xml():
    suite = ET.fromstring(junit.render(hostile())).find("testsuite")
    assert "<script>" in suite.get("hostname")
    assert "\\x1b" in suite.get("hostname")


# --- HTML ---


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("report", [*SAMPLES, pytest.param(hostile(), id="hostile")])
def test_html_is_one_page_that_needs_nothing(report):
    text = html.render(report).decode()
    tags = Tags()
    tags.feed(text)
    assert not tags.open
    assert "script" not in tags.seen
    assert {"html", "head", "title", "body", "h1", "table"} <= set(tags.seen)
    assert all(link.startswith("#") for link in tags.links)
    assert "url(" not in text
    assert "http" not in text
    assert "\x1b" not in text


def test_html_says_what_the_table_says():
    text = html.render(failing()).decode()
    assert "iptables -I INPUT 5 -p tcp" in text
    assert "&quot;no route to host&quot;" in text
    assert '<a href="#cause-1">cause 1</a>' in text
    assert 'id="cause-1"' in text
