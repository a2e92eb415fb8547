"""How bytes move: local files, obstore and fsspec."""
