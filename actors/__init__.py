"""The concurrent system: plain classes around the domain, made Ray actors in :mod:`actors.remote`."""

from actors.logs import configure_logs

# Every process of ours imports this package, actors and replicas alike, and Ray offers no earlier moment.
configure_logs()
