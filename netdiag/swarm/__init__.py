"""Pure knowledge about Docker Swarm: ports, tokens, engine rules, join stages."""
