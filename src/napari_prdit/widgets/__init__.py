"""Docks of the plugin; one file each."""
