"""Measured figures beside their budgets and, where there is one, beside a peer in the same run."""
