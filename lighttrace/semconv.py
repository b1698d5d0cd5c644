"""Every attribute key that LightTrace writes or reads, each once.

The names are those of the OpenTelemetry semantic conventions, v1.44, stable ones only; the keys of ownership follow
`docs/ownership.md`. The old names are read by the analysis, because services in other languages still send them, and
are never written.
"""

# Resource
SERVICE_NAME = "service.name"
SERVICE_NAMESPACE = "service.namespace"
SERVICE_VERSION = "service.version"
SERVICE_INSTANCE_ID = "service.instance.id"
DEPLOYMENT_ENVIRONMENT_NAME = "deployment.environment.name"
TELEMETRY_SDK_NAME = "telemetry.sdk.name"
TELEMETRY_SDK_LANGUAGE = "telemetry.sdk.language"
TELEMETRY_SDK_VERSION = "telemetry.sdk.version"
VCS_REPOSITORY_URL_FULL = "vcs.repository.url.full"
VCS_REF_HEAD_REVISION = "vcs.ref.head.revision"

# Ownership
TEAM = "team"
TEAM_SOURCE = "lighttrace.team.source"
SERVICE_OWNER_NAME = "service.owner.name"
TEAM_CONTACTS = "lighttrace.team.contacts"  # "team=contact url", for the teams that are not the service's default
SERVICE_OWNER_CONTACT = "service.owner.contact"
SERVICE_OWNER_URL = "service.owner.url"
SERVICE_PEER_NAME = "service.peer.name"
PEER_TEAM = "lighttrace.peer.team"
CALLER_SERVICE = "lighttrace.caller.service"
CALLER_TEAM = "lighttrace.caller.team"
TRANSACTION = "lighttrace.transaction"
CUSTOMER = "lighttrace.customer"
ERROR_TEAM = "lighttrace.error.team"

# LightTrace's own accounts of itself
INCOMPLETE = "lighttrace.incomplete"
DROPPED_SPANS = "lighttrace.dropped_spans"
KEEP_REASON = "lighttrace.keep.reason"

# Code
CODE_FILE_PATH = "code.file.path"
CODE_FUNCTION_NAME = "code.function.name"
CODE_LINE_NUMBER = "code.line.number"

# Errors and exceptions
ERROR_TYPE = "error.type"
EXCEPTION_EVENT = "exception"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"
EXCEPTION_ESCAPED = "exception.escaped"

# Network
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
CLIENT_ADDRESS = "client.address"
NETWORK_PEER_ADDRESS = "network.peer.address"
NETWORK_PEER_PORT = "network.peer.port"
NETWORK_PROTOCOL_VERSION = "network.protocol.version"

# HTTP
HTTP_REQUEST_METHOD = "http.request.method"
HTTP_REQUEST_METHOD_ORIGINAL = "http.request.method_original"
HTTP_REQUEST_RESEND_COUNT = "http.request.resend_count"
HTTP_REQUEST_HEADER = "http.request.header."
HTTP_RESPONSE_HEADER = "http.response.header."
HTTP_RESPONSE_STATUS_CODE = "http.response.status_code"
HTTP_ROUTE = "http.route"
URL_FULL = "url.full"
URL_PATH = "url.path"
URL_QUERY = "url.query"
URL_SCHEME = "url.scheme"
URL_TEMPLATE = "url.template"
USER_AGENT_ORIGINAL = "user_agent.original"

# Database
DB_SYSTEM_NAME = "db.system.name"
DB_NAMESPACE = "db.namespace"
DB_QUERY_SUMMARY = "db.query.summary"
DB_QUERY_TEXT = "db.query.text"
DB_OPERATION_NAME = "db.operation.name"
DB_OPERATION_BATCH_SIZE = "db.operation.batch.size"
DB_COLLECTION_NAME = "db.collection.name"
DB_STORED_PROCEDURE_NAME = "db.stored_procedure.name"
DB_RESPONSE_STATUS_CODE = "db.response.status_code"

# The old names, read and never written: today's key, then what older instrumentations call it.
OLD_NAMES = {
    HTTP_REQUEST_METHOD: ("http.method",),
    HTTP_RESPONSE_STATUS_CODE: ("http.status_code",),
    HTTP_ROUTE: (),
    URL_FULL: ("http.url",),
    URL_PATH: ("http.target",),
    URL_SCHEME: ("http.scheme",),
    SERVER_ADDRESS: ("net.peer.name", "http.host", "http.server_name", "net.host.name", "server.socket.domain"),
    SERVER_PORT: ("net.peer.port", "net.host.port"),
    NETWORK_PEER_ADDRESS: ("net.peer.ip", "net.sock.peer.addr", "server.socket.address"),
    NETWORK_PEER_PORT: ("net.sock.peer.port",),
    CLIENT_ADDRESS: ("http.client_ip",),
    USER_AGENT_ORIGINAL: ("http.user_agent",),
    DB_SYSTEM_NAME: ("db.system",),
    DB_NAMESPACE: ("db.name",),
    DB_QUERY_TEXT: ("db.statement",),
    DB_OPERATION_NAME: ("db.operation",),
    DB_COLLECTION_NAME: ("db.sql.table", "db.mongodb.collection"),
    SERVICE_PEER_NAME: ("peer.service",),
    CODE_FILE_PATH: ("code.filepath",),
    CODE_FUNCTION_NAME: ("code.function",),
    CODE_LINE_NUMBER: ("code.lineno",),
    DEPLOYMENT_ENVIRONMENT_NAME: ("deployment.environment",),
}
