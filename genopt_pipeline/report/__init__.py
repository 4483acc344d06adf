"""Charts, the HTML report and markdown: what people look at.

Frames and plain data in, text and figures out. Nothing here reads a database or a clock.
"""
