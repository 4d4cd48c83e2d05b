"""A full installation's door to this machine."""
