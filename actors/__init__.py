"""The concurrent system: plain classes around the domain, made Ray actors in :mod:`actors.remote`."""
