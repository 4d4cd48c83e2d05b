"""The participant as one program that a Python of another host reads from its standard input.

Its modules are in it as text and are imported from memory: nothing is written on that host.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import netdiag.participant

_PACKAGE = "netdiag.participant"

READY = "netdiag-ready"
"""What the interpreter says on a line of its own as soon as it can read the program.

Only then is it sent: a login shell's start-up files cannot swallow a part of it, and what they print is before that line.
"""

_LOADER = """
import importlib.abc, importlib.machinery, json, sys, types, zlib
_sources = json.loads(zlib.decompress(sys.stdin.buffer.read({size})).decode("utf-8"))

class _FromMemory(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name not in _sources:
            return None
        package = name == "{package}"
        return importlib.machinery.ModuleSpec(name, self, is_package=package)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(compile(_sources[module.__name__], "<" + module.__name__ + ">", "exec"), module.__dict__)

sys.dont_write_bytecode = True
_root = types.ModuleType("netdiag")
_root.__path__ = []
sys.modules["netdiag"] = _root
sys.meta_path.insert(0, _FromMemory())
from netdiag.participant.stream import main
main()
"""

BOOTSTRAP = (
    "import sys;print();print(sys.argv[1],flush=True);n=int(sys.stdin.buffer.readline());exec(sys.stdin.buffer.read(n))"
)
"""What the interpreter is given with ``-c``, and `READY` after it: it reads a line with a length, so many bytes, and
runs them. There is no quote in it, so that every shell passes it on.

Standard input is read through a buffer here: whatever follows must only be sent after the greeting has come.
"""


def sources() -> dict[str, str]:
    """The participant's modules by their full names."""
    directory = Path(netdiag.participant.__file__).parent
    found = {}
    for path in sorted(directory.glob("*.py")):
        name = _PACKAGE if path.stem == "__init__" else f"{_PACKAGE}.{path.stem}"
        found[name] = path.read_text("utf-8")
    return found


def payload() -> bytes:
    """What is sent once `READY` has come: the length line, the program, and the packed modules that it reads itself."""
    packed = zlib.compress(json.dumps(sources()).encode("utf-8"), 9)
    program = _LOADER.replace("{size}", str(len(packed))).replace("{package}", _PACKAGE).encode("utf-8")
    return b"%d\n" % len(program) + program + packed
