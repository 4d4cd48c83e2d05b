"""What must happen *on* a host, and nothing else: standard library only, a Python 3.6 subset."""
