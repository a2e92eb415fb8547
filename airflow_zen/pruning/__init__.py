"""Pruning of the artifact root: mark what is referred to, note the rest as unreferenced, and delete it later."""
