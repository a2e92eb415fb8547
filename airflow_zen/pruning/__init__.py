"""Free the artifact root of what nobody refers to: mark what is held, condemn the rest, later delete it."""
