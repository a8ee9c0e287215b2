"""A day with python-nomad, as published: every step is a call of that library against a running cluster."""

import queue
import sys
import threading
import time

import nomad
from nomad.api import exceptions

NAME = "python-nomad"
LINES = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.1; done"


def job(count, script=LINES):
    return {
        "Job": {
            "ID": NAME,
            "Name": NAME,
            "Type": "service",
            "Datacenters": ["*"],
            "Meta": {"made-by": "python"},
            "Update": {"MaxParallel": 2, "HealthCheck": "task_states", "MinHealthyTime": 100_000_000},
            "TaskGroups": [
                {
                    "Name": "web",
                    "Count": count,
                    "Scaling": {"Min": 0, "Max": 10, "Enabled": True},
                    "Tasks": [
                        {
                            "Name": "talk",
                            "Driver": "raw_exec",
                            "Config": {"command": "/bin/sh", "args": ["-c", script]},
                            "Resources": {"CPU": 20, "MemoryMB": 20},
                        }
                    ],
                }
            ],
        }
    }


def eventually(what, ask, limit_s=60):
    deadline = time.monotonic() + limit_s
    while True:
        found = ask()
        if found:
            return found
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.05)


def refused(kind, call, *args):
    try:
        call(*args)
    except kind as error:
        return error.nomad_resp
    raise AssertionError(f"{call} was not refused")


def blocked(api, path, params):
    """Asks for a newer answer than the one at hand, in a thread; gives the index at hand and where it comes."""
    now = api.request(*path, method="get", params=dict(params))
    index = int(now.headers["X-Nomad-Index"])
    assert index >= 0 and now.headers["X-Nomad-KnownLeader"] == "true"
    answer = queue.Queue()

    def ask():
        waiting = dict(params, index=index, wait="60s")
        answer.put(api.request(*path, method="get", params=waiting, timeout=90))

    threading.Thread(target=ask, daemon=True).start()
    return index, answer


def pages(api, params, size):
    """All rows, page by page; no page is larger than asked for, and none comes twice."""
    rows, token = [], None
    while True:
        asked = dict(params, per_page=size)
        if token:
            asked["next_token"] = token
        page = api.request(method="get", params=asked)
        assert len(page.json()) <= size
        rows += page.json()
        token = page.headers.get("X-Nomad-NextToken")
        if not token:
            break
        assert len(page.json()) == size
    ids = [row["ID"] for row in rows]
    assert len(set(ids)) == len(ids), ids
    return rows


def running(n, count):
    def ask():
        allocs = n.job.get_allocations(NAME)
        good = [a for a in allocs if a["ClientStatus"] == "running" and a["DesiredStatus"] == "run"]
        return good if len(good) == count else None

    return eventually(f"{count} run", ask)


def successful(n, version):
    deployed = n.job.get_deployment(NAME)
    return deployed if deployed["JobVersion"] == version and deployed["Status"] == "successful" else None


def main(address):
    n = nomad.Nomad(address=address, timeout=20)

    # The cluster.
    assert n.status.leader.get_leader()
    assert len(n.status.peers.get_peers()) == 3
    assert "global" in n.regions.get_regions()
    assert n.agent.get_agent()["config"]["Region"] == "global"
    assert len(n.agent.get_members()["Members"]) == 3
    assert len(n.operator.get_configuration()["Servers"]) == 3
    assert n.namespaces.get_namespaces()[0]["Name"] == "default" and "default" in n.namespaces

    # Nodes, by filter, by page, by prefix, and one whole.
    ready = n.nodes.get_nodes(filter_='Status == "ready"', resources=True)
    assert len(ready) == 2 and ready[0]["NodeResources"]["Cpu"]["CpuShares"] > 0
    assert n.nodes.get_nodes(filter_='Name == "nobody"') == []
    assert len(pages(n.nodes, {}, 1)) == 2
    whole = n.node.get_node(ready[0]["ID"])
    assert whole["ID"] == ready[0]["ID"] and whole["Drivers"]["raw_exec"]["Healthy"]
    assert n.nodes.get_nodes(prefix=ready[0]["ID"][:8])[0]["ID"] == ready[0]["ID"]
    assert b"filter" in refused(exceptions.BadRequestNomadException, n.nodes.get_nodes, None, None, None, "((").content

    # A job: validated, planned, registered.
    assert n.validate.validate_job(job(2)).json()["Error"] == ""
    parsed = n.jobs.parse('job "x" {\n group "g" {\n task "t" {\n driver = "raw_exec"\n }\n }\n}\n', canonicalize=True)
    assert parsed["ID"] == "x" and parsed["TaskGroups"][0]["Tasks"][0]["Driver"] == "raw_exec"
    assert NAME not in n.job
    plan = n.job.plan_job(NAME, job(2), diff=True)
    assert plan["Diff"]["Type"] == "Added" and plan["JobModifyIndex"] == 0 and not plan["FailedTGAllocs"]
    assert plan["Annotations"]["DesiredTGUpdates"]["web"]["Place"] == 2
    assert NAME not in n.job, "a plan changes nothing"
    at, watch = blocked(n.jobs, (), {})
    registered = n.jobs.register_job(job(2))
    assert registered["EvalID"] and registered["JobModifyIndex"] > 0
    answer = watch.get(timeout=60)
    assert int(answer.headers["X-Nomad-Index"]) > at and NAME in [j["ID"] for j in answer.json()]
    first = running(n, 2)
    assert NAME in n.job and n.job[NAME]["Status"] == "running"
    assert n.job.get_summary(NAME)["Summary"]["web"]["Running"] == 2
    bad = job(1)
    del bad["Job"]["TaskGroups"]
    assert b"task group" in refused(exceptions.BaseNomadException, n.jobs.register_job, bad).content.lower()

    # Changed: planned with what runs, then registered as a new version.
    plan = n.job.plan_job(NAME, job(3), diff=True)
    assert plan["Diff"]["Type"] == "Edited" and plan["JobModifyIndex"] == n.job[NAME]["JobModifyIndex"]
    assert plan["Annotations"]["DesiredTGUpdates"]["web"]["Place"] == 1
    n.job.register_job(NAME, job(3))
    assert {a["ID"] for a in first} <= {a["ID"] for a in running(n, 3)}
    assert [v["Version"] for v in n.job.get_versions(NAME)["Versions"]] == [1, 0]

    # The deployment succeeds; then it is scaled while somebody watches.
    deployed = eventually("version 1 is deployed", lambda: successful(n, 1))
    assert n.deployment.get_deployment(deployed["ID"])["TaskGroups"]["web"]["HealthyAllocs"] == 3
    assert len(n.deployment.get_deployment_allocations(deployed["ID"])) >= 1
    assert deployed["ID"] in [d["ID"] for d in n.deployments.get_deployments()]
    at, watch = blocked(n.job, (NAME, "allocations"), {})
    scaled = n.job.request(
        NAME, "scale", method="post", json={"Count": 5, "Target": {"Group": "web"}, "Message": "more of it"}
    ).json()
    assert scaled["EvalID"]
    assert int(watch.get(timeout=60).headers["X-Nomad-Index"]) > at
    running(n, 5)
    # Its health is judged anew; until that is over there may be further evaluations.
    eventually("version 2 is deployed", lambda: successful(n, 2))
    policies = n.scaling.get_scaling_policies(job=NAME)
    assert [p["Target"]["Group"] for p in policies] == ["web"]
    assert n.scaling.get_scaling_policy(policies[0]["ID"])["Max"] == 10

    # Allocations, by filter, by page, by prefix, backwards.
    of_job = f'JobID == "{NAME}"'
    assert len(n.allocations.get_allocations(filter_=of_job + ' and ClientStatus == "running"')) == 5
    assert len(pages(n.allocations, {"filter": of_job}, 2)) == 5
    there = [a["ID"] for a in n.allocations.get_allocations(filter_=of_job)]
    assert there == [a["ID"] for a in n.allocations.get_allocations(filter_=of_job, reverse="true")][::-1]
    alloc = n.allocations.get_allocations(prefix=first[0]["ID"][:8], resources=True, task_states=True)[0]
    assert alloc["AllocatedResources"]["Tasks"]["talk"]["Memory"]["MemoryMB"] == 20
    assert alloc["TaskStates"]["talk"]["State"] == "running"
    assert n.allocation.get_allocation(alloc["ID"])["Job"]["ID"] == NAME
    assert alloc["ID"] in [a["ID"] for a in n.node.get_allocations(alloc["NodeID"])]

    # Evaluations, by filter, by page, by prefix.
    evals = pages(n.evaluations, {"filter": of_job}, 1)
    assert {e["ID"] for e in evals} >= {registered["EvalID"], scaled["EvalID"]}
    assert scaled["EvalID"] in n.evaluations
    assert n.evaluations.get_evaluations(prefix=scaled["EvalID"][:8])[0]["ID"] == scaled["EvalID"]
    assert n.evaluation.get_evaluation(scaled["EvalID"])["Status"] == "complete"
    assert len(n.evaluation.get_allocations(scaled["EvalID"])) == 5
    assert {e["ID"] for e in n.job.get_evaluations(NAME)} == {e["ID"] for e in evals}

    # Output and files.
    eventually("it talks", lambda: "line 3\n" in n.client.stream_logs.stream(alloc["ID"], "talk", "stdout", plain=True))
    text = n.client.stream_logs.stream(alloc["ID"], "talk", "stdout", plain=True)
    assert text.startswith("line 1\nline 2\n"), text
    assert '"Data"' in n.client.stream_logs.stream(alloc["ID"], "talk", "stdout")
    assert {f["Name"] for f in n.client.ls.list_files(alloc["ID"])} >= {"alloc", "talk"}
    log = "alloc/logs/talk.stdout.0"
    assert n.client.stat.stat_file(alloc["ID"], log)["Size"] > 0
    assert n.client.cat.read_file(alloc["ID"], log).startswith("line 1\n")
    assert n.client.read_at.read_file_offset(alloc["ID"], 5, 1, log) == "1"
    assert n.client.stats.read_stats(alloc["NodeID"])["Memory"]["Total"] > 0
    assert n.client.allocation.read_allocation_stats(alloc["ID"])["Tasks"]["talk"]

    # Found by search; seen as events.
    assert NAME in n.search.search("python", "jobs")["Matches"]["jobs"]
    assert n.search.fuzzy_search("thon-nom", "jobs")["Matches"]["jobs"][0]["ID"] == NAME
    thread, leave, events = n.event.stream.get_stream(topic={"Job": NAME}, timeout=30)
    thread.daemon = True
    thread.start()

    # A worse version, and back.
    n.job.register_job(NAME, job(5, "exec sleep 1000"))
    eventually("version 3 runs", lambda: all(a["JobVersion"] == 3 for a in running(n, 5)))
    n.job.revert_job(NAME, 1)
    assert n.job[NAME]["Version"] == 4
    eventually("version 4 runs", lambda: all(a["JobVersion"] == 4 for a in running(n, 3)))
    assert events.get(timeout=60)["Events"][0]["Topic"] == "Job"
    leave.set()

    # Stopped, seen by who watches; then forgotten.
    at, watch = blocked(n.job, (NAME,), {})
    assert n.job.deregister_job(NAME)["EvalID"]
    answer = watch.get(timeout=60)
    assert answer.json()["Stop"] is True and int(answer.headers["X-Nomad-Index"]) > at
    eventually("all ended", lambda: all(a["ClientStatus"] != "running" for a in n.job.get_allocations(NAME)))
    eventually("it is dead", lambda: n.job[NAME]["Status"] == "dead")
    n.job.deregister_job(NAME, purge=True)
    eventually("it is forgotten", lambda: NAME not in n.job)
    assert b"job not found" in refused(exceptions.URLNotFoundNomadException, n.job.get_job, NAME).content
    n.system.initiate_garbage_collection()
    print("python-nomad: all went well")


if __name__ == "__main__":
    main(sys.argv[1])
