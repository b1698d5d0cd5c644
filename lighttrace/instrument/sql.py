"""What a statement does, in a few words, and the statement without its literals.

Not a parser: one pass over the tokens, for every dialect at once, bounded in time. Where it cannot tell, it says less.
"""

import re

TEXT_LIMIT = 32_768  # characters of a statement that are kept; beyond that nobody reads it, and it would fill the queue
SUMMARY_LIMIT = 255  # semantic conventions

_TOKEN = re.compile(
    r"""
      (?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z)|\#(?=[\s\w])[^\n]*)
    | (?P<dollar>\$(?P<tag>[A-Za-z_]\w*|)\$.*?(?:\$(?P=tag)\$|\Z))
    | (?P<string>(?:[eEnNbBxXuU]&?)?'(?:[^'\\]|''|\\.)*(?:'|\Z))
    | (?P<quoted>"(?:[^"]|"")*(?:"|\Z)|`(?:[^`]|``)*(?:`|\Z)|\[[A-Za-z_][^\]\n]*\])
    | (?P<parameter>%\([^)]*\)s|%[sbt]|\$\d+|:[A-Za-z_]\w*|@@?\w+|\?\d*)
    | (?P<number>0[xX][0-9a-fA-F]+|(?<![\w.])[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<word>[^\W\d][\w$\#]*)
    | (?P<space>\s+)
    | (?P<other>::|.)
    """,
    re.VERBOSE | re.DOTALL,
)

_OPERATIONS = frozenset(
    "SELECT INSERT UPDATE DELETE MERGE REPLACE UPSERT CREATE DROP ALTER TRUNCATE CALL EXEC EXECUTE EXPLAIN GRANT REVOKE BEGIN COMMIT "
    "ROLLBACK SAVEPOINT RELEASE START SET SHOW USE PRAGMA VACUUM ANALYZE COPY LOCK UNLOCK DECLARE FETCH CLOSE MOVE LISTEN NOTIFY "
    "UNLISTEN REINDEX REFRESH DESCRIBE ATTACH DETACH VALUES PREPARE DEALLOCATE LOAD RENAME".split()
)
_INSIDE = frozenset(("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"))  # operations that may follow within a statement
_BEFORE_TARGET = frozenset(("FROM", "JOIN", "INTO", "TABLE", "VIEW", "INDEX", "DATABASE", "SCHEMA", "SEQUENCE", "USING"))
_DIRECT = frozenset(("UPDATE", "CALL", "EXEC", "EXECUTE", "COPY", "TRUNCATE", "MERGE", "LOCK"))  # the target follows at once
_SKIPPED = frozenset("ONLY IF NOT EXISTS LATERAL OR TEMP TEMPORARY UNIQUE MATERIALIZED CONCURRENTLY IGNORE LOW_PRIORITY TABLE INTO".split())
_OBJECTS = frozenset(("TABLE", "VIEW", "INDEX", "DATABASE", "SCHEMA", "SEQUENCE"))
_ENDS = frozenset("WHERE SET VALUES ON GROUP ORDER LIMIT HAVING UNION RETURNING AS SELECT DEFAULT USING".split())
# FROM is also a word inside function calls, where no table follows.
_FUNCTIONS = frozenset(("EXTRACT", "SUBSTRING", "TRIM", "OVERLAY", "POSITION"))


def describe(statement: str, keep_literals: bool) -> tuple[str, str]:
    """The summary of a statement (empty where it says nothing) and its text, literals replaced by `?` unless they are kept.

    >>> describe("select name from users where id = 42 and note = 'x'", False)
    ('select users', 'select name from users where id = ? and note = ?')
    >>> describe("INSERT INTO shipping_details SELECT * FROM orders", True)[0]
    'INSERT shipping_details SELECT orders'
    """
    cut = statement[:TEXT_LIMIT]
    words: list[str] = []
    text: list[str] = []
    wanting = False  # a target may come next
    listing = False  # after a comma of a FROM list, another one
    first = True
    calls: list[str] = []  # for each open parenthesis, the word before it
    last_word = ""
    joined = False  # the last token was a dot within a name
    names: set[str] = set()  # common table expressions: names that stand for no table
    for match in _TOKEN.finditer(cut):
        kind = match.lastgroup
        piece = match.group()
        if kind == "tag":
            kind = "dollar"
        if kind == "string" or kind == "dollar" or kind == "number":
            text.append(piece if keep_literals else "?")
            if not (kind == "string" and wanting):
                wanting = False
            joined = False
            continue
        text.append(piece)
        if kind == "space" or kind == "comment":
            continue
        if kind == "word" or kind == "quoted":
            upper = piece.upper() if kind == "word" else ""
            if joined and words and not first:
                words[-1] += "." + piece
                joined = False
                listing = True
                continue
            if upper in _OPERATIONS and (first or upper in _INSIDE) and not (upper == "UPDATE" and last_word in ("FOR", "ON", "DO", "KEY")):
                if not (upper in ("DELETE",) and last_word == "ON"):
                    words.append(piece)
                    wanting = upper in _DIRECT
                    listing = False
                    first = False
                    last_word = upper
                    continue
            if upper in _BEFORE_TARGET and not (upper == "FROM" and calls and calls[-1] in _FUNCTIONS):
                if upper in _OBJECTS and words and len(words) == 1 and words[0].upper() in ("CREATE", "DROP", "ALTER", "TRUNCATE", "LOCK", "REFRESH"):
                    words[0] += " " + piece
                wanting = True
                listing = False
            elif wanting and upper in _SKIPPED:
                pass
            elif wanting and upper not in _ENDS:
                if piece not in names:
                    words.append(piece)
                wanting = False
                listing = True
            elif upper in _ENDS:
                wanting = listing = False
            elif upper == "AS" or last_word in ("WITH", "RECURSIVE"):
                names.add(piece)
            if first and upper == "WITH":
                pass
            elif first and upper and upper not in _OPERATIONS and last_word != "WITH" and not names:
                first = upper in ("RECURSIVE",)
            last_word = upper or piece
            joined = False
            continue
        if piece == ".":
            joined = listing
            continue
        if piece == "(":
            calls.append(last_word)
            wanting = False
        elif piece == ")":
            if calls:
                calls.pop()
        elif piece == "," and listing and not calls:
            wanting = True
        elif piece == ";":
            first = True
            wanting = listing = False
        joined = False
    return _shorten(words), "".join(text)


def _shorten(words: list[str]) -> str:
    """At most 255 characters, never cut inside a token."""
    summary = " ".join(words)
    if len(summary) <= SUMMARY_LIMIT:
        return summary
    return summary[: SUMMARY_LIMIT + 1].rsplit(" ", 1)[0][:SUMMARY_LIMIT]
