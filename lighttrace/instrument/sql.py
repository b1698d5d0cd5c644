"""What a statement does, in a few words, and the statement without its literals.

Not a parser: one pass over the tokens, bounded in time. Where it cannot tell, it says less: what may be a literal is one.
"""

import re
from collections.abc import Iterator

TEXT_LIMIT = 32_768  # characters of a statement that are kept; beyond that nobody reads it, and it would fill the queue
SUMMARY_LIMIT = 255  # semantic conventions

# Each alternative ends at the end of the text at the latest, so none is tried and given up over a long stretch.
_GRAMMAR = r"""
      (?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z)|\#(?=[\s\w])[^\n]*)
    | (?P<dollar>\$(?P<tag>[A-Za-z_]\w{{0,63}}|)\$.*?(?:\$(?P=tag)\$|\Z))
    | (?P<oracle>[nN]?[qQ]'(?:\[.*?(?:\]'|\Z)|\{{.*?(?:\}}'|\Z)|<.*?(?:>'|\Z)|\(.*?(?:\)'|\Z)|(?P<mark>[^\s\w]).*?(?:(?P=mark)'|\Z)))
    | (?P<string>[eE]'(?:[^'\\]+|''|\\.|\\\Z)*(?:'|\Z)|(?:[nNbBxX]|[uU]&?)?{string})
    | (?P<double>{double})
    | (?P<quoted>`(?:[^`]+|``)*(?:`|\Z)|\[[A-Za-z_][\w\ \#$@]{{0,127}}\])
    | (?P<parameter>%\([^()%]{{1,64}}\)s|%[sbt](?!\w)|\$\d+|:[A-Za-z_]\w*|@@?\w+|\?\d*)
    | (?P<number>(?<![\w.])(?:0[xX][0-9a-fA-F_]+|0[bBoO][0-7_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?))
    | (?P<word>[^\W\d][\w$\#]*)
    | (?P<space>\s+)
    | (?P<other>::|.)
"""
_STANDARD = r"'(?:[^']+|'')*(?:'|\Z)", r'"(?:[^"]+|"")*(?:"|\Z)'
_ESCAPED = r"'(?:[^'\\]+|''|\\.|\\\Z)*(?:'|\Z)", r'"(?:[^"\\]+|""|\\.|\\\Z)*(?:"|\Z)'


def _compile(strings: tuple[str, str]) -> re.Pattern[str]:
    return re.compile(_GRAMMAR.format(string=strings[0], double=strings[1]), re.VERBOSE | re.DOTALL)


_BY_STANDARD, _BY_ESCAPES = _compile(_STANDARD), _compile(_ESCAPED)

# Whether a backslash hides a quote, and whether "..." is a name, differs; a driver of another system gets both doubts.
_BACKSLASHES = frozenset(("mysql", "mariadb", "clickhouse", "gcp.spanner", "gcp.bigquery", "hive", "spark", "trino.hive"))
_NO_BACKSLASHES = frozenset(
    (
        "postgresql",
        "sqlite",
        "oracle.db",
        "microsoft.sql_server",
        "cockroachdb",
        "ibm.db2",
        "firebirdsql",
        "hsqldb",
        "h2database",
        "derby",
    )
)
_DOUBLE_IS_NAME = _NO_BACKSLASHES - {"sqlite"}

_OPERATIONS = frozenset(
    "SELECT INSERT UPDATE DELETE MERGE REPLACE UPSERT CREATE DROP ALTER TRUNCATE CALL EXEC EXECUTE EXPLAIN GRANT REVOKE BEGIN COMMIT "
    "ROLLBACK SAVEPOINT RELEASE START SET SHOW USE PRAGMA VACUUM ANALYZE COPY LOCK UNLOCK DECLARE FETCH CLOSE MOVE LISTEN NOTIFY "
    "UNLISTEN REINDEX REFRESH DESCRIBE ATTACH DETACH VALUES PREPARE DEALLOCATE LOAD RENAME COMMENT CHECKPOINT DISCARD RESET END ABORT".split()
)
_INSIDE = frozenset(("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"))  # operations that may follow within a statement
_NOT_AFTER = frozenset("FOR ON DO KEY THEN BEFORE AFTER OR OF".split())  # there they are clauses: FOR UPDATE, ON DELETE
_DEFINING = frozenset(
    ("CREATE", "DROP", "ALTER", "TRUNCATE", "REFRESH", "COMMENT", "RENAME", "LOCK", "ANALYZE", "VACUUM", "REINDEX")
)
_OBJECTS = frozenset(
    "TABLE VIEW INDEX DATABASE SCHEMA SEQUENCE FUNCTION PROCEDURE TRIGGER TYPE EXTENSION ROLE USER DOMAIN POLICY PUBLICATION COLUMN".split()
)
_BEFORE_TARGET = frozenset(("FROM", "JOIN", "INTO", "STRAIGHT_JOIN"))
_DIRECT = frozenset(
    "UPDATE INSERT REPLACE UPSERT CALL EXEC EXECUTE COPY TRUNCATE MERGE LOCK PRAGMA USE LISTEN NOTIFY DESCRIBE".split()
)
_SKIPPED = frozenset(
    "ONLY IF NOT EXISTS LATERAL OR TEMP TEMPORARY UNLOGGED UNIQUE MATERIALIZED CONCURRENTLY RECURSIVE REPLACE IGNORE ABORT FAIL ROLLBACK "
    "LOW_PRIORITY HIGH_PRIORITY DELAYED OVERWRITE TABLE TABLES INTO GLOBAL LOCAL CLUSTERED FULLTEXT SPATIAL VIRTUAL FOREIGN".split()
)
_ENDS = frozenset(
    "WHERE SET VALUES ON GROUP ORDER LIMIT OFFSET FETCH HAVING UNION EXCEPT INTERSECT RETURNING DEFAULT USING FOR WINDOW WITH TO".split()
)
# Names that a program makes up as it goes would make as many summaries; and FROM is also a word where no table follows.
_NO_TARGET = frozenset("FETCH MOVE CLOSE SAVEPOINT RELEASE ROLLBACK SET SHOW DECLARE PREPARE DEALLOCATE GRANT REVOKE".split())
_FUNCTIONS = frozenset(("EXTRACT", "SUBSTRING", "TRIM", "OVERLAY", "POSITION"))
_COMPARISONS = frozenset(
    ("LIKE", "ILIKE", "GLOB", "REGEXP", "RLIKE", "MATCH", "BETWEEN", "AND", "ESCAPE", "SOUNDS", "DEFAULT", "SET")
)
_LISTS = frozenset(("IN", "VALUES", "VALUE"))

_LIST_OF_LITERALS = re.compile(r"(?i)(\bIN\s*)\(\s*\?(?:\s*,\s*\?)+\s*\)")


def describe(statement: str, keep_literals: bool, system: str = "") -> tuple[str, str]:
    """The summary of a statement (empty where it says nothing) and its text; comments dropped and literals replaced by `?`,
    unless they are kept. `system` is the database's name in the semantic conventions.

    >>> describe("select name from users where id = 42 and note = 'x'", False)
    ('select users', 'select name from users where id = ? and note = ?')
    >>> describe("INSERT INTO shipping_details SELECT * FROM orders", True)[0]
    'INSERT shipping_details SELECT orders'
    """
    cut = statement[:TEXT_LIMIT]
    reader = _Reader()
    text: list[str] = []
    for kind, piece in _tokens(cut, system):
        if kind == "literal":
            text.append("?")
        elif kind != "comment":
            text.append(piece)
        if kind != "space" and kind != "comment":
            reader.read(kind, piece)
    if keep_literals:
        return reader.summary(), cut.strip()
    return reader.summary(), _LIST_OF_LITERALS.sub(r"\1(?)", "".join(text)).strip()


def _tokens(text: str, system: str) -> Iterator[tuple[str, str]]:
    """Kind and text of each token: `literal`, `quoted`, `word`, `parameter`, `space`, `comment` or `other`."""
    doubtful = system not in _BACKSLASHES and system not in _NO_BACKSLASHES
    pattern = _BY_STANDARD if system in _NO_BACKSLASHES else _BY_ESCAPES
    before, opened = "", ""  # the last token that counts, and the word before the last parenthesis
    for match in pattern.finditer(text):
        kind = match.lastgroup or ""
        piece = match.group()
        if kind == "string" or kind == "number" or kind == "dollar" or kind == "tag" or kind == "oracle" or kind == "mark":
            kind = "literal"
            if doubtful and "\\'" in piece and piece[0] not in "eE":
                # Either the string ends there, or it does not: what follows may be inside or outside of every string after it.
                yield kind, piece
                return
        elif kind == "double":
            if doubtful and '\\"' in piece:
                yield "literal", piece
                return
            kind = "literal" if system not in _DOUBLE_IS_NAME and _is_value(match, before, opened) else "quoted"
        elif kind == "other" and piece.isdigit():
            kind = "literal"
        yield kind, piece
        if kind != "space" and kind != "comment":
            if piece == "(":
                opened = before
            before = piece.upper() if kind == "word" else piece


def _is_value(match: "re.Match[str]", before: str, opened: str) -> bool:
    """Whether "..." stands where a value does: MySQL means a string by it, and SQLite may."""
    after = match.string[match.end() : match.end() + 1]
    if after == "." or before == ".":
        return False
    return (before != "" and before[-1] in "=<>~|+") or before in _COMPARISONS or (before in ("(", ",") and opened in _LISTS)


class _Reader:
    """Operations and their targets, as the tokens come."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.defined: set[str] = set()  # common table expressions: names that stand for no table
        self.calls: list[str] = []  # for each open parenthesis, the word before it
        self._begin()

    def _begin(self) -> None:
        self.first = True  # an operation may come: at the beginning of a statement
        self.defining = False  # after WITH, until the operation that it is for
        self.operation = ""
        self.wanting = False  # a target may come next
        self.listing = -1  # the depth of a list of targets, where a comma brings another one
        self.joining = False  # a dot within a target has just come
        self.named = False  # a target has just come
        self.last = ""

    def read(self, kind: str, piece: str) -> None:
        """One more token."""
        if kind == "word":
            self._word(piece, piece.upper())
        elif kind == "quoted":
            self._name(piece)
        elif piece == ".":
            self.joining = self.named
        else:
            self._punctuation(piece)

    def _punctuation(self, piece: str) -> None:
        self.joining = self.named = False
        if piece == "(":
            self.calls.append(self.last)
            self.wanting = self.wanting and self.last in ("FROM", "JOIN", ",", "(")
        elif piece == ")":
            if self.calls:
                self.calls.pop()
            self.wanting = False
        elif piece == "," and self.listing == len(self.calls):
            self.wanting = True
        elif piece == ";":
            self.calls.clear()
            self._begin()
        else:
            self.wanting = False
        self.last = piece

    def _word(self, piece: str, upper: str) -> None:
        if self.joining:
            self._name(piece)
            return
        if self.defining and not self.calls:
            if upper in _OPERATIONS:
                self.defining = False
                self._operation(piece, upper)
                return
            if self.last in ("WITH", "RECURSIVE", ",") and upper != "RECURSIVE":
                self.defined.add(piece)
            self.last = upper
            return
        if self.first:
            self.first = False
            if upper in _OPERATIONS:
                self._operation(piece, upper)
                return
            self.defining = upper == "WITH"
        elif (
            upper in _INSIDE and (upper == "SELECT" or self.last not in _NOT_AFTER) and self.operation not in ("GRANT", "REVOKE")
        ):
            self._operation(piece, upper)
            return
        self.named = False
        if upper in _OBJECTS and self.last in _DEFINING | _SKIPPED and self.operation in _DEFINING and self.words:
            self.words[-1] += " " + piece
            self.wanting = True
        elif upper in _BEFORE_TARGET:
            distinct = self.last == "DISTINCT" and upper == "FROM"
            copying = self.operation == "COPY" and not self.calls
            called = bool(self.calls) and self.calls[-1] in _FUNCTIONS
            self.wanting = not (distinct or copying or called or self.operation in _NO_TARGET)
            self.listing = -1
        elif upper == "USING" and self.operation in ("DELETE", "MERGE"):
            self.wanting = True
        elif upper in _ENDS:
            self.wanting, self.listing = False, -1
        elif upper == "AS":
            self.wanting = False
        elif self.wanting and upper not in _SKIPPED:
            self._name(piece)
        self.last = upper

    def _operation(self, piece: str, upper: str) -> None:
        self.words.append(piece)
        self.first = upper == "EXPLAIN"
        self.operation = upper
        self.wanting = upper in _DIRECT
        self.listing = len(self.calls) if self.wanting else -1
        self.named = self.joining = False
        self.last = upper

    def _name(self, piece: str) -> None:
        if self.joining:
            self.words[-1] += "." + piece
            self.joining = False
            self.named = True
        elif self.wanting:
            self.named = piece not in self.defined
            if self.named:
                self.words.append(piece)
            self.wanting = False
            self.listing = len(self.calls)
        elif self.defining and not self.calls and self.last in ("WITH", "RECURSIVE", ","):
            self.defined.add(piece)
        self.last = piece

    def summary(self) -> str:
        """What was read, at most 255 characters, never cut inside a token."""
        length = -1
        for index, word in enumerate(self.words):
            length += 1 + len(word)
            if length > SUMMARY_LIMIT:
                return " ".join(self.words[:index])
        return " ".join(self.words)
