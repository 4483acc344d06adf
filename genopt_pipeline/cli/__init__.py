"""The command `genopt`."""
