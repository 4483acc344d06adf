"""``python -m genopt_pipeline.cli`` is the command ``genopt``."""

from genopt_pipeline.cli.main import main

main()
