"""Values to files and back: one materializer for each family of types, one file for each library."""
