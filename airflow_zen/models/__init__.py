"""Registered models: which version is meant, what gates it, and how an alias moves."""
