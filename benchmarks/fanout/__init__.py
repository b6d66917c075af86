"""How fast one guild's events reach many sockets, beside nchan and Node's ``ws`` in the same run."""
