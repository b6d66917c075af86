"""A demo under attack: see :mod:`benchmarks.attack.run`."""
