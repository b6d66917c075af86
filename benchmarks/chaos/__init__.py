"""A run on real processes that kills and freezes them at random: ``guildhall bench chaos``.

At the end, the database is held against what was acknowledged.
"""
