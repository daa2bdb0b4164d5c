"""The gateway as a service: its modules in one process or several, watched and started again: `tickgate serve`."""
