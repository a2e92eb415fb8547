"""Sensors and triggers that wait for registered models."""
