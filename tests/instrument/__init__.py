"""Tests of `lighttrace.instrument`."""
