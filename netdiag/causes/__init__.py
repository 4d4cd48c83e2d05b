"""The catalogue of causes: code, meaning, the evidence that proves it, the remedy."""
