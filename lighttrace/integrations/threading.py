"""Carry the current span, baggage and team into threads that the program starts by itself."""

from lighttrace.instrument import Integration, StartPatch

INTEGRATION = Integration(name="threading", requires="threading", patches=(StartPatch("threading:Thread.start"),))
