import gzip
import hashlib
import io
import json
import tarfile

from netdiag.lab.docker_archive import compressed, pack


def tar_of(name, content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


LOWER, UPPER = tar_of("a", b"lower"), tar_of("b", b"upper")


def packed(layers=(LOWER, UPPER)):
    return pack(
        ("netdiag:1", "netdiag:latest"),
        [compressed(layer) for layer in layers],
        architecture="amd64",
        created="2024-01-01T00:00:00Z",
        config={"Cmd": ["x"]},
        history=["one", "two"],
    )


def files(archive):
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened}


def test_the_same_bytes_from_the_same_layers():
    assert packed() == packed()
    assert packed() != packed((UPPER, LOWER))


def test_what_older_engines_read():
    held = files(packed())
    (manifest,) = json.loads(held["manifest.json"])
    assert manifest["RepoTags"] == ["netdiag:1", "netdiag:latest"]
    assert [gzip.decompress(held[layer]) for layer in manifest["Layers"]] == [LOWER, UPPER]
    config = json.loads(held[manifest["Config"]])
    digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in (LOWER, UPPER)]
    assert config["rootfs"]["diff_ids"] == digests
    assert (config["architecture"], config["config"]) == ("amd64", {"Cmd": ["x"]})


def test_what_oci_tools_read():
    held = files(packed())
    assert json.loads(held["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(held["index.json"])
    assert [each["annotations"]["io.containerd.image.name"] for each in index["manifests"]] == [
        "docker.io/library/netdiag:1",
        "docker.io/library/netdiag:latest",
    ]
    for described in index["manifests"]:
        manifest = json.loads(blob(held, described))
        assert json.loads(blob(held, manifest["config"]))["os"] == "linux"
        assert [gzip.decompress(blob(held, layer)) for layer in manifest["layers"]] == [LOWER, UPPER]


def blob(held, described):
    """What a descriptor points at, if it is what the descriptor says."""
    content = held[f"blobs/{described['digest'].replace(':', '/')}"]
    assert len(content) == described["size"]
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == described["digest"]
    return content
