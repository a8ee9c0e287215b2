"""Runs a job with the generated Python client."""

import sys
import time

import steppe_client as steppe

NAME = "made-by-python"


def main(address):
    with steppe.ApiClient(steppe.Configuration(host=address)) as client:
        jobs, allocations = steppe.JobsApi(client), steppe.AllocationsApi(client)
        task = steppe.Task(
            name="t", driver="raw_exec", config={"command": "/bin/sh", "args": ["-c", "echo hello; exec sleep 1000"]}
        )
        group = steppe.TaskGroup(name="g", count=2, tasks=[task])
        job = steppe.Job(id=NAME, datacenters=["*"], task_groups=[group])
        registered = jobs.register_job(steppe.JobRegisterRequest(job=job))
        assert registered.eval_id and registered.job_modify_index > 0
        deadline = time.monotonic() + 60
        running = []
        while len(running) < 2:
            assert time.monotonic() < deadline, "two run in time"
            time.sleep(0.05)
            of_job = jobs.list_job_allocations(NAME)
            running = [a for a in of_job if a.client_status == steppe.ClientStatus.RUNNING]
        whole = allocations.read_allocation(running[0].id)
        assert whole.job.task_groups[0].tasks[0].driver == "raw_exec" and whole.task_states["t"].state == "running"
        assert len(allocations.list_allocations(filter=f'JobID == "{NAME}"', per_page=1)) == 1
        assert NAME in [stub.id for stub in jobs.list_jobs(prefix="made-by")]
        assert jobs.stop_job(NAME, purge=True).eval_id
        try:
            jobs.read_job(NAME)
            raise AssertionError("it is gone")
        except steppe.ApiException as error:
            assert error.status == 404
        print("python: all went well")


if __name__ == "__main__":
    main(sys.argv[1])
