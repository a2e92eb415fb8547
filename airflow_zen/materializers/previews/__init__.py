"""How previews look: pages of plain HTML and SVG, without a script and without anything from elsewhere."""
