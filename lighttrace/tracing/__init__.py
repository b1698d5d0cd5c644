"""Spans, tracers, the provider, sampling, limits and context, behind OpenTelemetry's API."""
