"""Previews of artifacts: pages of plain HTML and SVG, without scripts and external resources."""
