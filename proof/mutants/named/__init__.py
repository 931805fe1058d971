"""Mutants that have a name and a function of their own, which puts a wrong version in the place of a right one."""
