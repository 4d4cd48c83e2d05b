"""Netfilter without a kernel: rule sets as a typed model, and what becomes of a packet in it.

What is understood is decided as the kernel decides it; everything else is *unknown at this rule*, never wrong.
"""
