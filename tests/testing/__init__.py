"""Tests of `lighttrace.testing`."""
