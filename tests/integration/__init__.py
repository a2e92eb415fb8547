"""Tests of all parts together; a package, so that its deployment is stopped after its last test."""
