"""A simulated account, and a loopback HTTP server that speaks the X API."""
