"""`python -m routeiq`."""

from routeiq.cli import main

main()
