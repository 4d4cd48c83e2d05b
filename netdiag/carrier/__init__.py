"""Ways to reach the participant of another host. Each gives a `Carrier` (`netdiag.host.drive`) that must be closed."""
