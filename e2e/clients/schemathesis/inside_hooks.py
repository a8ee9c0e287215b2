"""What schemathesis has to know of the services: what waits by design."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body if isinstance(case.body, dict) else {}
    if isinstance(body.get("wait_ms"), int):
        body["wait_ms"] = 10
