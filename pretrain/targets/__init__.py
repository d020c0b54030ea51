"""Targets: what training minimises. One file each, with its paper."""
