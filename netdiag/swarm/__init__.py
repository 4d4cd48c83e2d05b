"""Pure knowledge about Docker Swarm: ports, join tokens and stages, certificates, engine rules, pools and quorum."""
