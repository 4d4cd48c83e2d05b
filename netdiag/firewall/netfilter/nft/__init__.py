"""nft's own rule sets: read from ``nft -j list ruleset``, and asked as the kernel asks them, statement after statement.

What is understood is decided as net/netfilter/nf_tables_core.c and the nft_*.c beside it do; everything else is kept and
is *unknown at this rule*.
"""
