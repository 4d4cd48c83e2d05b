"""The participant as one program text that a Python of another host reads from its standard input.

Its modules are in it as text and are imported from memory: nothing is written on that host.
"""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import netdiag.participant

_PACKAGE = "netdiag.participant"

_LOADER = """
import base64, importlib.abc, importlib.machinery, json, sys, types, zlib
_sources = json.loads(zlib.decompress(base64.b64decode("{packed}")).decode("utf-8"))

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
"""

_START = """
from netdiag.participant.stream import main
main()
"""

BOOTSTRAP = "import sys;n=int(sys.stdin.buffer.readline());exec(compile(sys.stdin.buffer.read(n),'netdiag','exec'))"
"""What the interpreter is given with ``-c``: it reads a line with a length, then so many bytes, and runs them.

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
    """The length line and the program, as `BOOTSTRAP` reads them."""
    packed = base64.b64encode(zlib.compress(json.dumps(sources()).encode("utf-8"), 9)).decode("ascii")
    program = (_LOADER.replace("{packed}", packed).replace("{package}", _PACKAGE) + _START).encode("utf-8")
    return b"%d\n" % len(program) + program
