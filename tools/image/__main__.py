"""``python -m tools.image``: build the image and say where it is, how large, and how it is run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from netdiag.errors import NetdiagError
from tools.image import enter
from tools.image.build import build, default_file


def main() -> None:
    """Read the arguments, build, and end with 0, or with 2 and one line if it cannot be built."""
    parser = argparse.ArgumentParser(prog="python -m tools.image", description="Build netdiag's container image.")
    parser.add_argument("--output", type=Path, default=default_file(), metavar="FILE", help="(default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="fetch the newest packages, not those of the last build")
    chosen = parser.parse_args()
    try:
        built = build(chosen.output, lambda line: print(f"… {line}", file=sys.stderr, flush=True), fresh=chosen.fresh)
    except NetdiagError as error:
        print(f"image: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{built.file}: {built.bytes_ / 1e6:.1f} MB, {', '.join(built.tags)}, sha256 {built.digest}")
    print(f"  docker load -i {built.file}")
    print(f"  {enter.USAGE}")


if __name__ == "__main__":
    main()
