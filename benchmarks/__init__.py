"""The figures that the documentation states, each by a command that prints it: ``guildhall bench NAME``."""
