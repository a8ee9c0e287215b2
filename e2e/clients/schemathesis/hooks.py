"""What schemathesis has to know of the cluster: what is there, and what takes long by design."""

import os
import random

import requests
import schemathesis

ADDRESS = os.environ["STEPPE_ADDRESS"]
NAMES = {"job_id": ["hello"], "name": ["default", "all"], "namespace": ["default"]}
LISTS = {"alloc_id": "allocations", "node_id": "nodes", "eval_id": "evaluations", "deployment_id": "deployments"}
chance = random.Random(1)


def there(parameter):
    """Names of things of that kind that are there, asked for once."""
    if parameter not in NAMES and parameter in LISTS:
        rows = requests.get(f"{ADDRESS}/v1/{LISTS[parameter]}", timeout=30).json()
        NAMES[parameter] = [row["ID"] for row in rows[:20]]
    return NAMES.get(parameter)


@schemathesis.hook
def before_call(context, case, kwargs):
    # Half of the calls are about something that is there.
    for parameter in list(case.path_parameters or {}):
        if chance.random() < 0.5 and there(parameter):
            case.path_parameters[parameter] = chance.choice(there(parameter))
    query = case.query or {}
    # A query that waits does so for minutes unless told otherwise; a follower of output never ends.
    if "index" in query:
        query["wait"] = "10ms"
    if case.path.startswith("/v1/client/fs/"):
        query["follow"] = "false"
        case.query = query
    # Another region is answered 500 `No path to region`, as by the interface that this one is compatible with.
    if "region" in query:
        query["region"] = "global"
    body = case.body if isinstance(case.body, dict) else {}
    for part in (body, body.get("Job")):
        if isinstance(part, dict) and "Region" in part:
            part["Region"] = "global"
