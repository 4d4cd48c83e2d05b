"""Everything that netdiag raises on purpose.

    NetdiagError
    ├── UsageError            the caller gave something that cannot be used; exit code 2
    │   ├── BundleError       a bundle that is truncated, foreign or of another version
    │   └── NoWay             nothing says how another host is reached
    ├── NotKnown              what was asked cannot be known now; exit code 3
    ├── CarrierError          another host cannot be reached, or answers what cannot be understood
    │   └── NoSuchHost        its name means nothing here
    └── LabError              the lab could not do what it was asked to
        └── LabToolMissing    a tool is not installed; says what to install

Doors (``host``, ``carrier``, ``lab``) translate what libraries and the kernel raise into these, with ``from``. What a *host* has
wrong is never an exception: it is a finding, or a section that is absent with its reason.
"""


class NetdiagError(Exception):
    """Root of all errors that netdiag raises on purpose; its text is one line for the operator."""


class UsageError(NetdiagError):
    """Input that cannot be used; the text names the value and says what is accepted."""


class BundleError(UsageError):
    """A bundle that cannot be read: truncated, not ours, or of a version that this netdiag does not know."""


class NoWay(UsageError):
    """Nothing was said of how another host is reached."""


class NotKnown(NetdiagError):
    """What would tell cannot be asked; the text says what that is and why."""


class CarrierError(NetdiagError):
    """Another host's participant cannot be reached; the text names the host and says why, in one line."""


class NoSuchHost(CarrierError):
    """Another host's name, as the operator typed it, has no address here."""


class LabError(NetdiagError):
    """The lab could not do what it was asked to."""


class LabToolMissing(LabError):
    """A tool that the lab needs is not there; the text says what to install."""
