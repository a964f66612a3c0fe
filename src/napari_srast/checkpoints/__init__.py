"""Store trained networks in files, and ship one."""
