"""Coverage-guided fuzzing of what reads rule sets, with atheris, which is not among the tests' own tools.

    make fuzz SECONDS=300            # both targets, with atheris in a virtual environment of its own
    python -m tests.fuzz iptables -max_total_time=300 CORPUS…
    python -m tests.fuzz ipset -max_total_time=300 CORPUS…

Inputs that fail are written to files by libFuzzer; ``python -m tests.fuzz iptables FILE`` runs one again.
"""

import sys

import atheris

with atheris.instrument_imports(include=["netdiag.firewall", "netdiag.model"]):
    from tests.fuzz import asked

TARGETS = {"iptables": asked.rule_set, "ipset": asked.sets}


def main():
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: target(data.decode("utf-8", errors="replace")))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
