"""Which work was done before: fingerprints of code, and the step cache."""
