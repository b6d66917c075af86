"""One module per outside thing: Postgres, Redis, Discord, the file system."""
