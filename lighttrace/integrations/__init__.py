"""One file per library. `TRIGGERS` says which import brings each of them in; nothing here imports a library."""

TRIGGERS: dict[str, tuple[str, str]] = {
    name: (module, f"lighttrace.integrations.{name}")
    for name, module in {
        "concurrent_futures": "concurrent.futures.thread",
        "fastapi": "fastapi",
        "flask": "flask",
        "httpx": "httpx",
        "multiprocessing": "multiprocessing.pool",
        "psycopg": "psycopg",
        "requests": "requests",
        "sqlite3": "sqlite3",
        "starlette": "starlette.applications",
        "threading": "threading",
        "urllib3": "urllib3",
    }.items()
}
"""Integration: (the module whose import brings it in, where its code is)."""
