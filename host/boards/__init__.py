"""Dev boards from the host's side: what there is for them, and how a bitstream gets onto one."""
