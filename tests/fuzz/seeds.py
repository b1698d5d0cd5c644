"""Inputs of the kind that each target expects, for the fuzzers to spoil."""

import base64
import json
import re

_SPAN = {
    "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "parentSpanId": "00f067aa0ba902b7", "name": "GET /",
    "kind": 2, "startTimeUnixNano": "1", "endTimeUnixNano": "9", "status": {"code": 2, "message": "no"},
    "attributes": [{"key": "http.response.status_code", "value": {"intValue": "500"}}, {"key": "a", "value": {"arrayValue": {}}}],
    "events": [{"name": "exception", "timeUnixNano": "5", "attributes": []}], "links": [{"traceId": "0" * 32, "spanId": "1" * 16}],
}  # fmt: skip
_PARENT = {**_SPAN, "spanId": "00f067aa0ba902b7", "parentSpanId": "", "kind": "SPAN_KIND_CLIENT"}
_RESOURCE = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
REQUEST = {"resourceSpans": [{"resource": _RESOURCE, "scopeSpans": [{"scope": {"name": "s"}, "spans": [_SPAN, _PARENT]}]}]}


def _base64(digits: str) -> str:
    return base64.b64encode(bytes.fromhex(digits)).decode()


def _protobuf() -> bytes:
    from google.protobuf import json_format
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    text = json.dumps(REQUEST)
    for key in ("traceId", "spanId", "parentSpanId"):  # hexadecimal in OTLP's JSON, base64 in protobuf's
        text = re.sub(
            rf'"{key}": "(\w*)"', lambda found: found[0].replace(found[1], _base64(found[1])) if found[1] else found[0], text
        )
    message = json_format.ParseDict(json.loads(text), ExportTraceServiceRequest())
    return bytes(message.SerializeToString())


_PARENTS = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SEEDS: dict[str, list[bytes]] = {
    "headers_by_hand": [_PARENTS + b"\nrojo=1,congo=t61\nfoo@bar=2\nkey=value;p=1,b=%20c\nlighttrace.caller.team=x"],
    "headers_of_every_format": [
        _PARENTS + b"\na=b\nk=v\n0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-d-00f067aa0ba902b7",
        b"\n\n\n\n463ac35c9f6413ad\na2fb4a1d1a96d312\n\n1\n1\n463ac35c9f6413ad:a2fb4a1d1a96d312:0:3\nv\n463ac35c9f6413ad\na2fb4a1d1a96d312\ntrue\nv",
    ],
    "urls": [b"https://user:pass@example.com:8080/a/b?token=secret&X-Amz-Signature=1&a=b#f", b"http://[::1]:80/?a=1", b"//x"],
    "statements": [
        b"SELECT a, 'x''y' FROM t WHERE id = 1 /* c */ AND b IN (1, 2) -- e",
        b"WITH x AS (SELECT $tag$body$tag$) INSERT INTO \"a\".b VALUES (?, %s, :n)",
    ],
    "attribute_values": [b"\x04\x01ab\x06\x02cd", b"\x07\x05\x03xyz"],
    "configuration_files": [b'service = "a"\n[peers]\n"*.x" = { team = "t" }\n[[rules]]\nroute = "/a"\nteam = "t"\n[otlp]\nendpoint = "x"\n'],
    "environment_variables": [b"a=b,c=d\n10\ntrue\nhttp://localhost:4318\n0.5\nb3,jaeger\n"],
    "codeowners": [b"* @a/b\n[Section][2] @c\n/x/ @d # e\n!/y\n\\#z f@g.h\na/b/c.py", b"^[Optional] @@developer\n**/a*.py\nx/abc.py"],
    "otlp_json": [json.dumps(REQUEST).encode()],
    "otlp_protobuf": [_protobuf()],
}  # fmt: skip
