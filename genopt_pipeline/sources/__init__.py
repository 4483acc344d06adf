"""Where metrics come from: the X API, X exports, the sandbox."""
