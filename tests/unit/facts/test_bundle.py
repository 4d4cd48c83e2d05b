from __future__ import annotations

import gzip
import json
import os
import stat
from pathlib import Path

import msgspec
import pytest

from netdiag.errors import BundleError, UsageError
from netdiag.facts import bundle as bundles
from netdiag.facts.assemble import replay
from netdiag.facts.bundle import SCHEMA, Bundle, Collection
from netdiag.host.bundles import read_bundle, write_bundle
from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Answer, Request, WireError

TOKEN = "SWMTKN-1-3pu6hszjas19xyp7ghgosyx9k8atbfcr8p2is99znpy26u2lkl-1awxwuwd3z9j1z3puu7rcgdbx"


def with_answers(answers: dict[str, Answer]) -> Bundle:
    return Bundle(tool="0", created_s=1.0, purpose="collect", collection=Collection(collected_s=1.0), answers=answers)


def test_round_trip(recorded: Bundle) -> None:
    again = bundles.decode(bundles.encode(recorded), "again")
    assert again == recorded
    assert replay(again) == replay(recorded)
    assert bundles.encode(again) == bundles.encode(recorded)


def test_bytes_text_and_errors_survive() -> None:
    answers = {
        "a {}": Answer(data={"messages": bytes(range(256)), "text": "ä\0b", "none": None}, duration_s=0.5),
        "b {}": Answer(error=WireError(AbsenceKind.WITHHELD, "no")),
    }
    assert bundles.decode(bundles.encode(with_answers(answers)), "x").answers == answers


def test_truncated_at_every_length(recorded: Bundle) -> None:
    data = bundles.encode(with_answers({"a {}": Answer(data={"messages": bytes(200)})}))
    for cut in range(len(data)):
        with pytest.raises(BundleError) as caught:
            bundles.decode(data[:cut], "mine.bundle")
        assert str(caught.value).startswith("mine.bundle: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"hello, world", "not a bundle"),
        (gzip.compress(b"hello"), "no JSON"),
        (gzip.compress(b"[1,2]"), "no JSON"),
        (gzip.compress(b"{}"), "schema ''"),
        (gzip.compress(b'{"schema": "other/1"}'), "schema 'other/1'"),
        (gzip.compress(b'{"schema": "netdiag/bundle/2"}'), "another version"),
        (gzip.compress(json.dumps({"schema": SCHEMA}).encode()), "damaged"),
        (gzip.compress(b"[" * 100000), "no JSON"),
        (gzip.compress(b"\xff\xfe"), "no JSON"),
        (gzip.compress(b"{}")[:-4] + b"abcd", "not a bundle"),
    ],
    # Compressed bytes hold the time; workers must agree on the names of tests.
    ids=["nothing", "text", "word", "list", "no schema", "foreign", "newer", "empty", "nested", "binary", "checksum"],
)
def test_what_is_no_bundle_of_ours(data: bytes, says: str) -> None:
    with pytest.raises(BundleError, match=says) as caught:
        bundles.decode(data, "theirs")
    assert "\n" not in str(caught.value)


def test_answers_of_the_wrong_shape() -> None:
    document = msgspec.json.decode(gzip.decompress(bundles.encode(with_answers({}))))
    for wrong in (5, {"error": {"kind": "strange"}}, {"data": 7}, {}):
        packed = gzip.compress(msgspec.json.encode({**document, "answers": {"a {}": wrong}}))
        with pytest.raises(BundleError, match="damaged"):
            bundles.decode(packed, "x")


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "LIMIT_BYTES", 1000)
    with pytest.raises(BundleError, match="unpacks to more"):
        bundles.decode(gzip.compress(bytes(5000)), "bomb")


def test_what_no_bundle_may_hold() -> None:
    log = f'level=info msg="joining swarm with {TOKEN}"\nlevel=warn msg="memberlist: x"\nlevel=info msg="secret-app"\n'
    keys = {
        "node": {
            "nodes": [
                {"key": "/calico/bgp/v1/global/password", "value": "geheim1"},
                {"key": "/calico/v1/x", "value": json.dumps({"password": "geheim2", "cidr": "10.0.0.0/24"})},
            ]
        }
    }
    answers = {
        Request("command", {"argv": ["journalctl", "-u", "docker"]}).key(): Answer(data={"stdout": log, "code": 0}),
        Request("http-get", {"url": "http://h:1/v2/keys/calico"}).key(): Answer(data={"text": json.dumps(keys)}),
        Request("files", {"globs": ["x"]}).key(): Answer(
            data={
                "files": {
                    "/etc/calico/calicoctl.cfg": "etcdEndpoints: https://u:geheim3@h:2379\netcdPassword: geheim4\n",
                    "/etc/x": f"proxy http://u:geheim5@proxy:3128 {TOKEN}",
                }
            }
        ),
    }
    text = gzip.decompress(bundles.encode(with_answers(answers))).decode()
    assert "geheim" not in text
    assert "3pu6hszj" not in text
    assert "secret-app" not in text
    assert "memberlist" in text
    assert "10.0.0.0/24" in text
    assert "h:2379" in text


def test_written_whole_and_for_the_owner_only(tmp_path: Path, recorded: Bundle) -> None:
    path = tmp_path / "x.bundle"
    path.write_text("old")
    previous = os.umask(0)
    try:
        assert write_bundle(path, recorded) == path.stat().st_size
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_bundle(path) == recorded
    assert [item.name for item in tmp_path.iterdir()] == ["x.bundle"]


def test_places_that_cannot_be_used(tmp_path: Path, recorded: Bundle) -> None:
    with pytest.raises(UsageError, match="No such file"):
        write_bundle(tmp_path / "no" / "x", recorded)
    with pytest.raises(UsageError, match="directory"):
        write_bundle(tmp_path, recorded)
    with pytest.raises(BundleError, match="No such file"):
        read_bundle(tmp_path / "none")
    with pytest.raises(BundleError, match="directory"):
        read_bundle(tmp_path)
