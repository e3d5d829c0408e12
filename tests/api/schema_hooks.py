"""Hooks of tests/api/test_schema.py, loaded by schemathesis: what its schema cannot say, and a check of our own."""
import os
import zlib

import schemathesis

MODEL = os.environ["MLXR_TEST_MODEL"]
NEEDED = {"model", "messages", "prompt", "input", "max_tokens", "input_prefix", "input_suffix", "content"}


def chance(*what):
    return zlib.crc32(repr(what).encode())


@schemathesis.hook
def map_body(context, body):
    """Made-up names of models would end everything with 404: three of four get one that is there."""
    if isinstance(body, dict) and context.operation.path == "/ui-api/profile" and type(body.get("seconds", 1)) is int:
        return dict(body, seconds=min(body.get("seconds", 1), 1))  # it waits for so long
    if isinstance(body, dict) and isinstance(body.get("model"), str) and len(str(body)) % 4:
        return dict(body, model=MODEL)
    return body


@schemathesis.hook
def before_call(context, case, kwargs):
    """Of sixty fields at once some never go together: of data that fits the schema only a few stay, so that answers are
    generated, too."""
    del context, kwargs
    meta, body = case.meta, case.body
    if not (meta and meta.generation.mode.is_positive and isinstance(body, dict) and "model" in body):
        return
    case.body = {key: value for key, value in body.items() if key in NEEDED or chance(key, body) % 8 == 0}
    if isinstance(case.body.get("model"), str) and chance(body) % 8:
        case.body["model"] = MODEL


@schemathesis.check
def not_now_says_when(context, response, case):
    """503 and 429 say when to come again; nothing else of 500 and up is to be seen at all."""
    del context, case
    if response.status_code in (429, 503):
        assert "retry-after" in response.headers, "Retry-After is missing"
