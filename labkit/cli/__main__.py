"""`python -m labkit.cli`, for where the console script is not on the path."""

from labkit.cli import main

main()
