"""From raw answers of a participant to typed facts: what to ask, and how to read what came back. Pure."""
