"""What of the packages the image needs: an interpreter, a few programs and their libraries, without what nobody runs.

The root is that of a merged /usr. Each package is unpacked by itself, so that it is known which one a file is of; the
copyright file and the control data of every package that gave one go along.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from zipfile import ZipFile

from netdiag.errors import LabError
from netdiag.lab import debian
from tools.image.enter import BESIDE
from tools.image.inputs import Inputs

PROGRAMS = {
    "ssh": "usr/bin/ssh",
    "ip": "usr/bin/ip",
    "bridge": "usr/sbin/bridge",
    "nft": "usr/sbin/nft",
    "ipset": "usr/sbin/ipset",
    "iptables-nft-save": "usr/sbin/xtables-nft-multi",
    "ip6tables-nft-save": "usr/sbin/xtables-nft-multi",
    "iptables-legacy-save": "usr/sbin/xtables-legacy-multi",
    "ip6tables-legacy-save": "usr/sbin/xtables-legacy-multi",
}
"""Programs by name. No plain ``iptables``: which variant that is on a host is a fact about the host."""

UNUSED_WHEELS = {
    "pygments": "rich colours program texts with it; netdiag prints none",
    "pycparser": "cffi reads C declarations with it, where something is compiled",
}
"""Dependencies of dependencies that are not in the image, and why."""

_UNUSED_MODULES = frozenset(
    {
        *("test", "tests", "idlelib", "lib2to3", "ensurepip", "distutils", "pydoc_data", "tkinter", "turtledemo"),
        *("curses", "dbm", "venv", "__pycache__"),
    }
)
_UNUSED_EXTENSIONS = re.compile(
    r"_?xx|_test|_ctypes_test|_curses|_dbm|_crypt|_uuid|_lsprof|_codecs_(?!iso8859)|_tkinter|nis|readline|"
    r"ossaudiodev|audioop"
)
_UNUSED_FILES = frozenset({".pyi", ".c", ".h", ".pyx", ".pxd", ".a", ".exe"})
_LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_CONSOLE = "#!/usr/bin/python3 -I\nimport sys\n\nfrom netdiag.cli import main\n\nsys.exit(main())\n"
_WRAPPER = """#!/bin/sh
# {name} of the netdiag image, for where the image is not the root: its libraries are found from this file's own path.
root=${{0%/{beside}/*}}
{before}exec "$root{loader}" --inhibit-cache --library-path "$root{libraries}" --argv0 {argv0} "$root/{program}" "$@"
"""
# What starts an interpreter of its own is a guard, which must outlive a container that is killed: an engine kills every
# process of the container's control group. The host's first group takes it in; without one it stays where it is.
_LEAVE_GROUP = """if [ -w /sys/fs/cgroup/cgroup.procs ]; then
  echo $$ > /sys/fs/cgroup/cgroup.procs
else
  for procs in /sys/fs/cgroup/*/cgroup.procs; do echo $$ > "$procs"; done
fi 2>/dev/null
"""


class Packages:
    """Debian's packages, unpacked side by side."""

    def __init__(self, archives: tuple[Path, ...], directory: Path) -> None:
        self._directory = directory
        self._archives = {archive.name.partition("_")[0]: archive for archive in archives}
        self._used: set[str] = set()
        for name, archive in self._archives.items():
            root = directory / name
            debian.merge_usr(root)
            debian.unpack(archive, root)
        self.libraries = sorted(
            {path.parent for path in directory.glob("*/usr/lib/*/lib*.so*") if (path.parent.parent.name) == "lib"}
        )
        self.loader = next(directory.glob("libc6/usr/lib/*/ld-linux*.so.*"))

    def find(self, path: str) -> Path:
        """A file by its path in the image. LabError if no package has it."""
        for found in sorted(self._directory.glob(f"*/{path}")):
            self._used.add(found.relative_to(self._directory).parts[0])
            return found
        raise LabError(f"no package has {path}: the image cannot be made on this distribution")

    def files(self, path: str) -> list[Path]:
        """All files below a directory, whichever packages they are of."""
        return sorted(found for found in self._directory.glob(f"*/{path}/**/*") if found.is_file())

    def inside(self, path: Path) -> str:
        """A found file's path in the image; its package counts as used."""
        package, *parts = path.relative_to(self._directory).parts
        self._used.add(package)
        return "/".join(parts)

    def libraries_of(self, program: Path) -> list[Path]:
        """The libraries of a program or of another library, as the loader finds them."""
        places = ":".join(map(str, self.libraries))
        command = [str(self.loader), "--inhibit-cache", "--library-path", places, "--list", str(program)]
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
        if listed.returncode:
            raise LabError(f"{program.name} lacks a library: {(listed.stderr or listed.stdout).strip()}")
        return [Path(path) for path in _LIBRARY.findall(listed.stdout)]

    def used(self) -> dict[str, Path]:
        """Archives of the packages that gave a file, by name."""
        return {name: self._archives[name] for name in sorted(self._used)}

    def copyright_of(self, name: str) -> Path:
        """A package's copyright file, which can be that of a package of the same source."""
        documents = self._directory / name / "usr/share/doc" / name
        if documents.is_symlink():
            return self.copyright_of(documents.readlink().name)
        return documents / "copyright"


def compose(inputs: Inputs, packages: Path, root: Path) -> None:
    """Lay out everything but netdiag itself in an empty directory.

    Args:
        inputs: the archives and wheels.
        packages: a directory to unpack packages in.
        root: receives the image's root.
    """
    debian.merge_usr(root)
    for directory in ("etc", "proc", "sys", "dev", "run", "var", "tmp", "root"):
        (root / directory).mkdir()
    unpacked = Packages(inputs.archives, packages)
    for path, text in _ACCOUNTS.items():
        (root / path).write_text(text, encoding="utf-8")
    _take(unpacked, unpacked.find("usr/lib/os-release"), root)
    (root / "etc/os-release").symlink_to("../usr/lib/os-release")
    _python(unpacked, inputs.python, root)
    for name, path in PROGRAMS.items():
        _program(unpacked, name, path, root)
    for plugin in sorted(unpacked.find("usr/lib/*/xtables/libxt_tcp.so").parent.glob("*.so")):
        _take(unpacked, plugin, root)
        _link_closure(unpacked, plugin, root)
    _loader(unpacked, root)
    _wrap(unpacked, inputs.python, root)
    for wheel in inputs.wheels:
        if wheel.name.partition("-")[0].lower() not in UNUSED_WHEELS:
            unpack_wheel(wheel, root)
    for extension in sorted((root / "usr/lib/python3").rglob("*.so")):
        _link_closure(unpacked, extension, root)
    _papers(unpacked, root)


def unpack_wheel(wheel: Path, root: Path) -> None:
    """Unpack a wheel to where the image's interpreter finds it."""
    site = root / "usr/lib/python3/dist-packages"
    with ZipFile(wheel) as archive:
        for item in archive.infolist():
            parts = Path(item.filename).parts
            if item.is_dir() or _UNUSED_MODULES & set(parts[1:-1]) or Path(item.filename).suffix in _UNUSED_FILES:
                continue
            if parts[0].endswith(".data"):
                if parts[1] not in ("purelib", "platlib"):
                    continue
                parts = parts[2:]
            target = site.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(item))


def console(root: Path, entry: Path) -> None:
    """Write the command ``netdiag`` and the image's entry point."""
    (root / BESIDE).parent.mkdir(parents=True, exist_ok=True)
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    (root / "usr/bin/netdiag").write_text(_CONSOLE, encoding="utf-8")
    (root / "usr/bin/netdiag").chmod(0o755)
    shutil.copyfile(entry, root / "usr/lib/netdiag/enter.py")


def _take(packages: Packages, found: Path, root: Path) -> None:
    """Copy a file to its own path; a link is followed."""
    _copy(found, root / packages.inside(found))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copyfile(source, target)
        target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)


def _link_closure(packages: Packages, binary: Path, root: Path) -> None:
    for library in packages.libraries_of(binary):
        if library.name != packages.loader.name:
            _take(packages, library, root)


def _program(packages: Packages, name: str, path: str, root: Path) -> None:
    found = packages.find(path)
    if found.is_symlink():  # Debian's ip is in /bin, with a link in /sbin
        found = found.parent / found.readlink()
    _take(packages, found, root)
    _link_closure(packages, found, root)
    link = root / path.rpartition("/")[0] / name
    if not link.exists():
        link.symlink_to(path.rpartition("/")[2])


def _python(packages: Packages, version: str, root: Path) -> None:
    binary = packages.find(f"usr/bin/python{version}")
    _take(packages, binary, root)
    _link_closure(packages, binary, root)
    (root / "usr/bin/python3").symlink_to(binary.name)
    for found in packages.files(f"usr/lib/python{version}"):
        parts = found.parts
        # A link that leads out of the package leads to the host's files once netdiag runs there.
        if found.is_symlink() or _UNUSED_MODULES & set(parts):
            continue
        extension = parts[-2] == "lib-dynload"
        if extension and _UNUSED_EXTENSIONS.match(found.name):
            continue
        _take(packages, found, root)
        if extension:
            _link_closure(packages, found, root)


def _loader(packages: Packages, root: Path) -> None:
    """The dynamic loader, and the link to it that is written into every program."""
    _take(packages, packages.loader, root)
    for link in (packages.loader.parents[3] / "usr").glob("lib*/ld-linux*"):
        place = root / packages.inside(link)
        if not place.exists():
            place.symlink_to(f"../lib/{packages.loader.parent.name}/{packages.loader.name}")


def _wrap(packages: Packages, version: str, root: Path) -> None:
    libraries = "/" + packages.inside(packages.loader.parent)
    common = {"beside": BESIDE, "loader": f"{libraries}/{packages.loader.name}", "libraries": libraries}
    plugins = f'XTABLES_LIBDIR="$root{libraries}/xtables" '
    texts = {
        name: _WRAPPER.format(
            **common, name=name, program=path, argv0=name, before=plugins if "tables" in path or name == "nft" else ""
        )
        for name, path in PROGRAMS.items()
    }
    # It says that it is this wrapper, so that what starts sys.executable starts the wrapper again.
    texts["python3"] = _WRAPPER.format(
        **common, name="python3", program=f"usr/bin/python{version}", argv0='"$0"', before=_LEAVE_GROUP
    )
    directory = root / BESIDE
    directory.mkdir(parents=True)
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")
        (directory / name).chmod(0o755)


def _papers(packages: Packages, root: Path) -> None:
    """Licences, and what is installed, where scanners of images look for it."""
    for licence in packages.files("usr/share/common-licenses"):
        if not licence.is_symlink():
            _take(packages, licence, root)
    status = root / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    for name, archive in packages.used().items():
        control = subprocess.run(["dpkg-deb", "-f", str(archive)], capture_output=True, text=True, check=True).stdout
        (status / name).write_text(control, encoding="utf-8")
        _copy(packages.copyright_of(name), root / f"usr/share/doc/{name}/copyright")
