"""A Discord that runs on one machine: gateway, REST, OAuth2, people who chat, and faults on demand."""
