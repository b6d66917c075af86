"""The command line, the settings, and the composition root."""

__version__ = "0.1.0"
