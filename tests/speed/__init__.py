"""The fast paths equal slow, plain ones; several processes equal one."""
