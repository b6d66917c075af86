"""Pure decisions: what a guild is and how events change it. No Ray, no driver, no clock, no I/O."""
