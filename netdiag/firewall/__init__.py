"""Rule sets as data: what a packet meets, what moved, whose rule it is."""
