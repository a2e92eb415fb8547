"""Typed, immutable, content-addressed values: their refs, manifests and versions, and the store that keeps them."""
