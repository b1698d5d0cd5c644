"""Carry the current span, baggage and team into thread pools, and with them `loop.run_in_executor`."""

from lighttrace.instrument import Integration, SubmitPatch

INTEGRATION = Integration(
    name="concurrent_futures",
    requires="concurrent.futures",
    patches=(SubmitPatch("concurrent.futures.thread:ThreadPoolExecutor.submit"),),
)
