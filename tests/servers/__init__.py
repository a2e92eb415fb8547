"""Real servers for tests: started on free loopback ports, checked, and stopped by their own process ids."""
