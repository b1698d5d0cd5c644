"""Tests of `lighttrace.integrations`: each library, through a conformance kit."""
