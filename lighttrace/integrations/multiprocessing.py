"""Carry the current span, baggage and team into `multiprocessing.pool.ThreadPool`."""

from lighttrace.instrument import Integration, PoolPatch

INTEGRATION = Integration(
    name="multiprocessing",
    requires="multiprocessing.pool",
    patches=(
        PoolPatch("multiprocessing.pool:Pool.apply_async"),
        PoolPatch("multiprocessing.pool:Pool.imap"),
        PoolPatch("multiprocessing.pool:Pool.imap_unordered"),
        # `map`, `starmap` and their asynchronous twins meet nowhere else; read in CPython 3.10 to 3.14.
        PoolPatch("multiprocessing.pool:Pool._map_async"),
    ),
)
