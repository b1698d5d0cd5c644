"""LightTrace's tests. They mirror the package, and run against whichever `lighttrace` is installed."""
