"""The command line: one thin file a command, which imports what it needs when it runs."""

QUIET = False  # the running command shall draw nothing (-q)
BARS = 0  # bars that the running command draws itself
