"""Somebody else's bank. It sends no spans."""
