"""A step: what it declares, its cache key, and the whole story of one execution."""
