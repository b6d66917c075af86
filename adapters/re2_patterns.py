"""Regular expressions on RE2: time linear in the text, whatever the pattern and whoever wrote the text."""

from __future__ import annotations

import re2

from domain.detection import Pattern


def compile_pattern(pattern: str) -> Pattern:
    """Compile for RE2; raise ``re2.error`` when the pattern is none."""
    options = re2.Options()
    options.log_errors = False
    compiled: Pattern = re2.compile(pattern, options=options)
    return compiled
