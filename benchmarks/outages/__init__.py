"""What Guildhall stands on goes away under people who watch: ``guildhall bench outages``.

Discord for minutes, the Rbac actor by ``kill -9``, and the database's last minutes by a restore. Afterwards
what is stored is held against what the local Discord sent, and what people see against what is stored.
"""
