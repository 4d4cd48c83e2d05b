"""Facts and observations to findings: one module a topic."""
