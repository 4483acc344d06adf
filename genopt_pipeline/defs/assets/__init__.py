"""The assets, by group. A body reads a window, calls a step, and returns metadata."""
