"""The library's verbs: what can be done with whole disks. No printing, no command lines."""
