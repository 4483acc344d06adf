"""Pure functions of data and time: no dagster, no SQL, no HTTP, no clock, no global randomness."""
