"""Asks a running cluster what its OpenAPI document allows, and takes no other answer than the document allows.

First every document of the project is validated. Then schemathesis tries every public operation: the same requests
in every run (a fixed seed, nothing remembered from runs before), about half of them about things that are there.

    day.py ADDRESS [EXAMPLES [SEED]]     by hand: more examples, another seed
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests
from openapi_spec_validator import validate

HERE = Path(__file__).resolve().parent
DOCUMENTS = HERE.parent.parent.parent / "openapi"
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
# Not asked: what would take the cluster apart, what has no end, and what needs a websocket.
APART = r"/v1/operator/raft/|/v1/agent/(force-leave|join|keyring)|/v1/operator/snapshot"
ENDLESS = r"/v1/event/stream|/v1/agent/(monitor|pprof)|/exec$|/action$"
# Answers 501 as the interface that this one is compatible with does where no node is.
NO_NODE = r"/v1/agent/servers"
HELLO = {
    "ID": "hello",
    "Datacenters": ["*"],
    "TaskGroups": [
        {
            "Name": "web",
            "Update": {"MinHealthyTime": 100_000_000, "HealthCheck": "task_states"},
            "Scaling": {"Max": 3},
            "Tasks": [
                {"Name": "web", "Driver": "raw_exec", "Config": {"command": "/bin/sh", "args": ["-c", "yes hello | head -n 500; exec sleep 1000"]}}
            ],
        }
    ],
}


def public_part():
    """The gateway's document without what needs a certificate of the cluster."""
    document = json.loads((DOCUMENTS / "gateway.json").read_text())
    document["paths"] = {path: item for path, item in document["paths"].items() if not path.startswith("/v1/internal")}
    assert len(document["paths"]) > 90
    return document


def await_output(address):
    """What the task writes is what files and logs are read from: an empty one has other answers."""
    until = time.monotonic() + 60
    while True:
        allocs = requests.get(address + "/v1/job/hello/allocations", timeout=30).json()
        for alloc in allocs:
            logs = f"{address}/v1/client/fs/logs/{alloc['ID']}?task=web&type=stdout&plain=true"
            if len(requests.get(logs, timeout=30).text) >= 3000:
                return
        assert time.monotonic() < until, "the task writes nothing"
        time.sleep(0.2)


def main(address, examples="4", seed="1"):
    for path in sorted(DOCUMENTS.glob("*.json")):
        validate(json.loads(path.read_text()))
    assert requests.get(address + "/openapi.json", timeout=30).json() == json.loads((DOCUMENTS / "gateway.json").read_text())
    requests.put(address + "/v1/jobs", json={"Job": HELLO}, timeout=30).raise_for_status()
    await_output(address)
    with tempfile.TemporaryDirectory() as at:
        document = Path(at) / "gateway.json"
        document.write_text(json.dumps(public_part()))
        (Path(at) / "schemathesis.toml").write_text(f'hooks = "{HERE / "hooks.py"}"\n')
        command = [Path(sys.executable).with_name("schemathesis"), "run", document, "--url", address]
        command += ["--checks", ",".join(CHECKS), "--phases", "examples,fuzzing", "--max-examples", examples, "--seed", seed]
        command += ["--exclude-path-regex", "|".join([APART, ENDLESS, NO_NODE]), "--continue-on-failure", "--no-shrink"]
        command += ["--generation-database", "none", "--request-timeout", "60", "--workers", "1", "--warnings", "off"]
        environment = dict(os.environ, STEPPE_ADDRESS=address, NO_COLOR="1")
        done = subprocess.run([*map(str, command)], cwd=at, env=environment, check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
