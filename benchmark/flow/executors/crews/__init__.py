"""Crews that make steps: processes of this machine, nodes of a Ray cluster; what they are told."""
