import pytest

from netdiag.swarm.engine_rules import (
    DEFECTS,
    Condition,
    ConflictKind,
    conflicts,
    defects_of,
    may_poll_networkdb,
    vni_match_module,
)
from netdiag.swarm.engine_version import EngineVersion, parse_engine_version


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1.12.6", "1.12.6"),
        ("1.13.1", "1.13.1"),
        ("17.06.2-ce", "17.6.2"),
        ("17.06.2-ee-16", "17.6.2"),
        ("20.10.24+dfsg1", "20.10.24"),
        ("26.1.5", "26.1.5"),
        ("28.2.2~1", "28.2.2"),
        ("5:28.2.2-1~debian.12~bookworm", "28.2.2"),
        ("27.5.1-0ubuntu3~24.04.2", "27.5.1"),
        ("v25.0.13", "25.0.13"),
        ("29.0.0-rc1", "29.0.0-rc1"),
        ("29.0.0~rc.4", "29.0.0-rc4"),
        ("28.0.0-beta.2", "28.0.0-beta2"),
        ("24.0", "24.0.0"),
    ],
)
def test_versions_in_all_spellings(text: str, shown: str) -> None:
    assert str(parse_engine_version(text)) == shown


@pytest.mark.parametrize(
    "text", ["", "dev", "library-import", "0.0.0-20250101000000-abc", "master-dockerproject-2020", "29", "1.2.3.4"]
)
def test_what_is_no_version(text: str) -> None:
    assert parse_engine_version(text) is None


def test_order() -> None:
    texts = [
        "1.12.6",
        "17.06.2-ce",
        "20.10.24+dfsg1",
        "29.0.0-dev",
        "29.0.0-beta.1",
        "29.0.0-rc1",
        "29.0.0-rc2",
        "29.0.0",
    ]
    versions = [version(text) for text in texts]
    assert sorted(versions) == versions


def version(text: str) -> EngineVersion:
    parsed = parse_engine_version(text)
    assert parsed is not None
    return parsed


ALL = frozenset(Condition)


@pytest.mark.parametrize(
    ("defect", "affected", "not_affected"),
    [
        ("no-swarm-mode", ["1.11.2"], ["1.12.0"]),
        ("live-restore", ["1.12.0", "29.7.2"], ["1.11.2"]),
        ("nftables-backend-refused", ["29.0.0-rc1", "29.5.3", "29.6.0-rc1"], ["28.5.2", "29.6.0"]),
        ("nftables-backend-flag", ["29.6.0"], ["29.5.3"]),
        ("forwarding-entry-leak", ["28.2.0", "28.2.2"], ["28.1.1", "28.3.0"]),
        ("forwarding-entry-missing", ["20.10.24", "29.8.0"], ["29.8.1"]),
        ("encryption-port", ["19.03.15", "20.10.24", "23.0.6", "24.0.2"], ["18.09.9", "23.0.7", "24.0.3"]),
        ("encryption-needs-u32", ["19.03.1", "20.10.23", "23.0.2"], ["20.10.24", "23.0.3"]),
        ("firewalld-reload", ["25.0.12", "26.1.5", "27.5.1", "28.5.2"], ["25.0.13", "29.0.0"]),
        ("networkdb-race", ["24.0.7", "27.5.1", "28.1.1", "28.3.3", "28.5.2"], ["25.0.13", "28.2.2", "29.0.0"]),
    ],
)
def test_which_releases_have_a_defect(defect: str, affected: list[str], not_affected: list[str]) -> None:
    def has(text: str) -> bool:
        return defect in {row.id for row in defects_of(version(text), ALL)}

    assert [text for text in affected if not has(text)] == []
    assert [text for text in not_affected if has(text)] == []


def test_a_defect_needs_all_its_conditions() -> None:
    old = version("20.10.23")
    assert defects_of(old) == ()
    assert defects_of(old, {Condition.CUSTOM_DATA_PATH_PORT}) == ()
    both = defects_of(old, {Condition.CUSTOM_DATA_PATH_PORT, Condition.ENCRYPTED_NETWORK})
    assert [defect.id for defect in both] == ["encryption-port"]


def test_ids_are_unique_and_rows_have_sources() -> None:
    assert len({defect.id for defect in DEFECTS}) == len(DEFECTS)
    assert all(defect.refs and defect.advice for defect in DEFECTS)


def test_modules_and_polling_by_version() -> None:
    assert (vni_match_module(version("20.10.23")), vni_match_module(version("20.10.24"))) == ("xt_u32", "xt_bpf")
    assert may_poll_networkdb(version("29.7.2"))
    assert not may_poll_networkdb(version("27.5.1"))


@pytest.mark.parametrize(
    ("versions", "encrypted", "kinds"),
    [
        pytest.param({"a": "29.1.0", "b": "29.2.1"}, True, [ConflictKind.SPI_MISMATCH], id="one line, other index"),
        pytest.param({"a": "29.1.0", "b": "29.2.1"}, False, [], id="nothing encrypted"),
        pytest.param({"a": "28.2.2", "b": "29.2.0"}, True, [ConflictKind.MIXED_MAJOR], id="the same other index"),
        pytest.param(
            {"a": "28.2.2", "b": "28.2.1", "c": "20.10.24+dfsg1"},
            True,
            [ConflictKind.SPI_MISMATCH, ConflictKind.MIXED_MAJOR],
            id="both",
        ),
        pytest.param({"a": "26.1.5", "b": "dev"}, True, [], id="a version that cannot be read is left out"),
        pytest.param({}, True, [], id="nobody"),
    ],
)
def test_versions_that_do_not_go_together(versions: dict[str, str], encrypted: bool, kinds: list[ConflictKind]) -> None:
    assert [conflict.kind for conflict in conflicts(versions, encrypted=encrypted)] == kinds


def test_a_conflict_names_the_nodes() -> None:
    (conflict,) = conflicts({"c": "28.3.0", "a": "28.2.2", "b": "28.1.1"}, encrypted=True)
    assert conflict.groups == {"4-byte": ("a",), "16-byte": ("b", "c")}


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ("20.10.24+dfsg1", False),
        ("24.0.7", False),
        ("25.0.12", False),
        ("25.0.13", True),
        ("27.5.1", False),
        ("28.1.1", False),
        ("28.2.2", True),
        ("28.5.2", False),
        ("29.0.0", True),
        ("30.1.0-rc.1", True),
    ],
)
def test_engines_that_lock_their_gossip_tables(version: str, safe: bool) -> None:
    assert may_poll_networkdb(parse_engine_version(version)) is safe
