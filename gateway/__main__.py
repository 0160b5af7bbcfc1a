"""``python -m gateway`` is ``citywatch``."""

from gateway.cli import main

main()
