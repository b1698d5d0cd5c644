"""The inventory's tables, in PostgreSQL where SHOP_DATABASE_URL names one, else in a file of sqlite3."""

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

URL = os.environ.get("SHOP_DATABASE_URL", "")
FILE = os.environ.get("INVENTORY_FILE", os.path.join(tempfile.gettempdir(), "shop-inventory.db"))

STOCK = [("teapot", 14, "Utrecht"), ("umbrella", 3, "Utrecht"), ("armchair", 2, "Gent"), ("lamp", 40, "Gent")]
PICNIC = ["basket", "blanket", "bread", "butter", "cheese", "corkscrew", "cups", "figs", "forks", "glasses",
          "ham", "jam", "knives", "lemonade", "napkins", "olives", "plates", "salt", "spoons", "wine"]  # fmt: skip


class Connection:
    """The little that is needed of a driver, so that both can be used."""

    def __init__(self, driver: Any, marker: str) -> None:
        self._driver = driver
        self._marker = marker

    def all(self, statement: str, *values: object) -> list[Any]:
        """Every row."""
        return list(self._driver.execute(statement.replace("%s", self._marker), values).fetchall())

    def one(self, statement: str, *values: object) -> Any:
        """The first row, or None."""
        return self._driver.execute(statement.replace("%s", self._marker), values).fetchone()

    def run(self, statement: str, *values: object) -> None:
        """A statement without rows."""
        self._driver.execute(statement.replace("%s", self._marker), values)


@contextmanager
def connect() -> Iterator[Connection]:
    """A connection for as long as the block lasts, committed at its end."""
    if URL:
        import psycopg

        with psycopg.connect(URL) as driver:
            yield Connection(driver, "%s")
        return
    driver = sqlite3.connect(FILE)
    driver.create_function("pg_sleep", 1, time.sleep)
    try:
        with driver:
            yield Connection(driver, "?")
    finally:
        driver.close()


def prepare() -> None:
    """Make the tables and fill them."""
    with connect() as connection:
        for table in ("stock", "bundle"):
            connection.run(f"DROP TABLE IF EXISTS {table}")
        connection.run("CREATE TABLE stock (sku TEXT PRIMARY KEY, on_hand INTEGER, warehouse TEXT)")
        connection.run("CREATE TABLE bundle (name TEXT, sku TEXT)")
        for row in STOCK + [(sku, 100, "Gent") for sku in PICNIC]:
            connection.run("INSERT INTO stock VALUES (%s, %s, %s)", *row)
        for sku in PICNIC:
            connection.run("INSERT INTO bundle VALUES (%s, %s)", "picnic", sku)
