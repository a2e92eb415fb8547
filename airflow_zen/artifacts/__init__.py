"""Typed, immutable, content-addressed values: their refs, manifests, and the store they lie in."""
