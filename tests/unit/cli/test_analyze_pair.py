"""``netdiag analyze MINE THEIRS``, and what it does with files that are no pair."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from netdiag.cli import cli
from netdiag.cli.analyze_run import analyze_pair
from netdiag.errors import BundleError, UsageError
from netdiag.host.bundles import read_bundle

RECORDED = Path(__file__).parents[1] / "facts" / "data" / "script"
MANAGER, WORKER = RECORDED / "manager.txt", RECORDED / "worker-busybox.txt"
NOW_S = 1795567300.0


def report(mine, theirs):
    return analyze_pair(mine, theirs, names=("mine", "theirs"), now_s=NOW_S)


def test_two_recorded_hosts_are_a_clean_pair():
    made = report(read_bundle(WORKER), read_bundle(MANAGER))
    assert made.causes == ()
    assert (made.host, made.verdict.value, made.exit_code()) == ("worker", "ok", 0)


def test_the_command_prints_one_report_and_its_code():
    done = CliRunner().invoke(cli, ["analyze", str(WORKER), str(MANAGER), "--output", "json"])
    document = json.loads(done.stdout)
    assert (done.exit_code, document["schema"]) == (0, "netdiag/report/1")
    assert {finding["subject"]["peer"] for finding in document["findings"]} == {"manager", "worker"}


def test_two_files_can_be_read_each_by_itself():
    done = CliRunner().invoke(cli, ["analyze", "--each", str(WORKER), str(MANAGER)])
    assert done.stdout.count("netdiag analyze (script collect), on") == 2


def test_what_is_not_broken_is_not_called_sound():
    done = CliRunner().invoke(cli, ["analyze", str(WORKER), str(MANAGER)])
    assert done.stdout.startswith("Nothing in the two records stands against the hosts' traffic")


def test_one_host_twice_is_refused():
    with pytest.raises(UsageError, match=r"mine and theirs are both of manager"):
        report(read_bundle(MANAGER), read_bundle(MANAGER))


def renamed(tmp_path, text, name):
    path = tmp_path / name
    path.write_text(text.replace("hostname=worker", "hostname=manager"))
    return read_bundle(path)


def test_hosts_of_one_name_are_told_apart_by_their_addresses(tmp_path):
    made = report(renamed(tmp_path, WORKER.read_text(), "mine"), read_bundle(MANAGER))
    (cause,) = [one for one in made.causes if one.code == "host.name-duplicate"]
    assert cause.host == "manager (10.71.0.2)"
    assert {one.subject.peer for one in made.findings} == {"manager (10.71.0.1)", "manager (10.71.0.2)"}


def test_a_script_that_this_host_made_bounds_the_others_clock(tmp_path):
    late = MANAGER.read_text().replace("@made 1795567162 worker-1", "@made 1795569000 worker")
    path = tmp_path / "theirs"
    path.write_text(late)
    made = report(read_bundle(WORKER), read_bundle(path))
    (cause,) = [one for one in made.causes if one.code == "host.clock"]
    assert (cause.host, cause.object["behind_s_at_least"]) == ("manager", 1834.5)
    path.write_text(late.replace("@made 1795569000 worker", "@made 1795569000 another"))
    assert report(read_bundle(WORKER), read_bundle(path)).causes == ()


def test_a_file_that_is_neither_is_said_in_one_line(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("@netdiag/script/9\n@begin identity\n")
    with pytest.raises(BundleError, match=r"notes.txt: netdiag/script/9 was made by another version"):
        read_bundle(path)
