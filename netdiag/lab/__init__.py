"""Virtual hosts on one machine, with real engines, and faults to inject."""
