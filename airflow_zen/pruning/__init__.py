"""Pruning of the artifact root: mark what is referred to, condemn the rest, and delete it later."""
