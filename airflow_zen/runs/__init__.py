"""Records of step runs."""
