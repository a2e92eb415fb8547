"""Caching: fingerprints of code, and the results of earlier steps."""
