"""Frozen typed facts, observations, findings and reports: the words that all other rooms speak."""
