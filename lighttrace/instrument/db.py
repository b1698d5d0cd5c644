"""Database calls as spans: name, attributes, status, redaction and ownership, for every driver at once.

An adapter says how a driver spells a call:

    DbPatch("psycopg:Cursor.execute", read_call=lambda cursor, query, params=None, **_: (cursor.connection, query, params, None))

`read_call` has the signature of what it stands before and gives four things: the connection (or whatever identifies the
database), the statement (text, bytes, or an object with `as_string`), the parameters that travel beside it (or True, or
None), and the sets of parameters of a batch (None where it is none). It may give None for "no call of ours".
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from opentelemetry.trace import SpanKind

from lighttrace import guard, semconv
from lighttrace.instrument import hosts, sql
from lighttrace.instrument.call import around, around_block, enough
from lighttrace.instrument.engine import Bounded, Scope, scope_of, state
from lighttrace.instrument.patching import Patch
from lighttrace.tracing import errors
from lighttrace.tracing.context import SPAN_KEY, SUPPRESS_KEY, bare, read_current
from lighttrace.tracing.shared import NOTHING_OWN, Shared
from lighttrace.tracing.span import Span, UnsampledSpan

CLIENT = SpanKind.CLIENT
Call = tuple[Any, Any, Any, Any]
_CONTAINERS = frozenset((tuple, list, dict))


class Database(NamedTuple):
    """Where a connection leads: what `read_database` of an integration gives, once per connection."""

    system: str
    namespace: str | None = None
    address: str | None = None
    port: int | None = None
    default_port: int | None = None


class Facts:
    """What all spans of one database have in common, and the statements that were sent to it."""

    __slots__ = ("attributes", "bare", "fallback", "parameterised", "resolver")

    def __init__(self, database: Database) -> None:
        self.attributes: dict[str, Any] = {semconv.DB_SYSTEM_NAME: database.system}
        target = None
        if database.namespace:
            target = self.attributes[semconv.DB_NAMESPACE] = database.namespace
        if database.address:
            self.attributes[semconv.SERVER_ADDRESS] = database.address
            if database.port and database.port != database.default_port:
                self.attributes[semconv.SERVER_PORT] = database.port
            peer = hosts.host(database.address, database.port or database.default_port or 0).peer
            if peer:
                self.attributes.update(peer)
            target = target or f"{database.address}:{database.port or database.default_port}"
        self.fallback = target or database.system
        self.parameterised: Bounded = Bounded(2000)  # statement: the name and the attributes of its spans
        self.bare: Bounded = Bounded(2000)
        self.resolver = state.resolver


_by_database: dict[Database, Facts] = {}
_LONG_MESSAGE = 4_096  # characters of an error's message that are kept
_LONG = 16_384  # statements longer than this are described each time rather than kept


class DbPatch(Patch):
    """Trace the calls of one function or method of a database driver."""

    def __init__(
        self,
        target: str,
        read_call: Callable[..., Call | None],
        read_database: Callable[[Any], Database],
        read_code: Callable[[BaseException], str | None] | None = None,
        *,
        block: bool = False,
    ) -> None:
        """`block` says that the target gives a context manager, and the call lasts as long as that."""
        super().__init__(target)
        self.block = block
        self.read_call = read_call
        self._enough = enough(read_call)
        self.read_database = read_database
        self.read_code = read_code
        self.scope: Scope = Scope("", covers=True)

    def bind(self, integration: str) -> None:
        super().bind(integration)
        self.scope = scope_of(integration)

    def wrap(self, original: Any) -> Any:
        return (around_block if self.block else around)(original, self._begin, self._finish, self._fail)

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Span | UnsampledSpan | None:
        site = self.site
        if not site.enabled:
            return None
        try:
            context = read_current()
            if context:
                if type(context) in bare:
                    parent = context
                else:
                    parent = context.get(SPAN_KEY)
                    if (len(context) > 1 or parent is None) and context.get(SUPPRESS_KEY):
                        return None
                if type(parent) is Span and parent._tracer.covers and parent._kind is CLIENT and not parent._end:
                    return None
            tracer = self.scope.tracer or self.scope.find()
            if tracer is None:
                return None
            read_call = self.read_call
            call = read_call(*args) if not kwargs or len(args) == self._enough else read_call(*args, **kwargs)
            if call is None:
                return None
            connection, statement, beside, batch = call
            if type(beside) in _CONTAINERS:  # not `bool()` of any object: an array has none
                beside = len(beside) > 0
            facts = getattr(connection, _ATTRIBUTE, None)
            if facts is None or facts.resolver is not state.resolver:
                facts = facts_of(connection, self.read_database)
            if type(statement) is not str:
                if hasattr(statement, "as_string"):
                    beside = None  # composed: values may have been put in beside those that travel on their own
                statement = text_of(statement, connection)
            known = (facts.bare if beside is None or beside is False else facts.parameterised).get(statement)
            if known is None:
                known = self._describe(facts, statement, beside is not None and beside is not False)
            name, shared = known
            if batch is None:
                if not context and tracer.pipeline.keeps_roots:
                    return tracer.start_root(name, CLIENT, NOTHING_OWN, shared)
                return tracer.start(name, CLIENT, NOTHING_OWN, context, None, shared)
            attributes = dict(shared.attributes)
            return tracer.start(_batch(name, attributes, batch), CLIENT, attributes, context)
        except Exception as error:
            site.failed(error)
            return None

    def _describe(self, facts: Facts, statement: str, beside: bool) -> tuple[str, Shared]:
        summary, text = sql.describe(statement, beside or state.capture_literals, facts.attributes[semconv.DB_SYSTEM_NAME])
        attributes = dict(facts.attributes)
        if summary:
            attributes[semconv.DB_QUERY_SUMMARY] = summary
        if text:
            attributes[semconv.DB_QUERY_TEXT] = text
        known = (summary or facts.fallback), Shared(attributes)
        if len(statement) <= _LONG:
            (facts.parameterised if beside else facts.bare)[statement] = known
        return known

    def _finish(self, span: Span | UnsampledSpan, result: Any) -> None:
        span.end()

    def _fail(self, span: Span | UnsampledSpan, error: BaseException) -> None:
        if type(span) is Span:
            try:
                code = self.read_code(error) if self.read_code is not None else None
                if code and not errors.is_control_flow(error):
                    span.own().update({semconv.DB_RESPONSE_STATUS_CODE: str(code), semconv.ERROR_TYPE: str(code)})
            except Exception as ours:
                self.site.failed(ours)
            errors.fail(span, error, scrub(errors.message_of(error)))
            span.end()


def facts_of(connection: Any, read_database: Callable[[Any], Database]) -> Facts:
    """What is known of a connection's database; asked once per connection, shared by all connections to it."""
    database = read_database(connection)
    facts = _by_database.get(database)
    if facts is None or facts.resolver is not state.resolver:
        if len(_by_database) >= 1000:
            _by_database.clear()
        facts = _by_database[database] = Facts(database)
    _remember(connection, facts)
    return facts


_ATTRIBUTE = "__lighttrace_facts__"


def _remember(connection: Any, facts: Facts) -> None:
    try:
        setattr(connection, _ATTRIBUTE, facts)
    except (AttributeError, TypeError):
        guard.count("db.facts_not_kept")  # a connection with slots: asked again each time


def text_of(statement: Any, connection: Any) -> str:
    """A statement as text, whatever the driver takes for one; never raises."""
    if isinstance(statement, str):
        return str(statement)
    if isinstance(statement, bytes | bytearray | memoryview):
        return bytes(statement).decode("utf-8", "replace")
    as_string = getattr(statement, "as_string", None)
    if as_string is not None:
        try:
            return str(as_string(connection))
        except Exception:
            guard.count("db.statement_unreadable")
            return ""
    # An object that the driver will refuse, or a template: its type says enough, its value may be a secret.
    return ""


def _batch(name: str, attributes: dict[str, Any], batch: Any) -> str:
    """A batch is one of two sets of parameters or more, or of none; one set is an ordinary call."""
    size = len(batch) if isinstance(batch, Sequence) else None
    if size is None or size == 1:
        return name
    attributes[semconv.DB_OPERATION_BATCH_SIZE] = size
    summary = attributes.get(semconv.DB_QUERY_SUMMARY)
    if summary:
        attributes[semconv.DB_QUERY_SUMMARY] = f"BATCH {summary}"[: sql.SUMMARY_LIMIT]
        return f"BATCH {name}"
    return name


def scrub(message: str) -> str:
    """A database's error message without the values that it quotes.

    >>> scrub('duplicate key value violates unique constraint "u" DETAIL: Key (mail)=(bob@example.com) already exists.')
    'duplicate key value violates unique constraint "u" DETAIL: Key (mail)=(?) already exists.'
    """
    import re

    if state.capture_literals:
        return message
    # The context quotes the row or the statement inside a function that it was about.
    text = re.sub(r"(?ms)^CONTEXT:.*?(?=^[A-Z]+:|\Z)", "", message[:_LONG_MESSAGE])
    # "LINE 1: select ..." quotes the statement itself.
    text = re.sub(r"(?m)^LINE \d+:.*(?:\n\s*\^)?", "", text).rstrip()
    text = re.sub(r'(?i)(: |\b(?:near|value|string|token) )"(?:[^"\n]|"")*"', r'\1"?"', text)
    # After those: a quote that is never closed would be taken for closed by one in the statement's own line.
    text = re.sub(r"=\((?:[^()]|\([^()]*\))*\)", "=(?)", text)
    text = re.sub(r"(?i)(failing row contains )\(.*\)", r"\1(?)", text)
    text = re.sub(r"(?<!\w)'(?:[^'\\]|''|\\.)*(?:'|\Z)", "'?'", text)  # an apostrophe inside a word opens nothing
    return re.sub(r"(?<![\w.])\d{5,}(?![\w.])", "?", text)
