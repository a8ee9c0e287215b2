// Runs a job with openapi-fetch and the generated types; tsc checks it against them.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };
const name = "made-by-typescript";

function demand(good: unknown, what: string): asserts good {
  if (!good) throw new Error(`not so: ${what}`);
}

const client = createClient<paths>({ baseUrl: process.argv[2] });
const job: components["schemas"]["Job"] = {
  ID: name,
  Datacenters: ["*"],
  TaskGroups: [
    {
      Name: "g",
      Count: 2,
      Tasks: [{ Name: "t", Driver: "raw_exec", Config: { command: "/bin/sh", args: ["-c", "exec sleep 1000"] } }],
    },
  ],
};
const registered = await client.POST("/v1/jobs", { body: { Job: job } });
demand(registered.data?.EvalID, "an evaluation");

const of = { params: { path: { job_id: name } } };
const until = Date.now() + 60_000;
let running: components["schemas"]["AllocStub"][] = [];
while (running.length < 2) {
  demand(Date.now() < until, "two run in time");
  await new Promise((wake) => setTimeout(wake, 50));
  const { data } = await client.GET("/v1/job/{job_id}/allocations", of);
  running = (data ?? []).filter((alloc) => alloc.ClientStatus === "running");
}
const whole = await client.GET("/v1/allocation/{alloc_id}", { params: { path: { alloc_id: running[0].ID ?? "" } } });
demand(whole.data?.JobID === name && whole.data.TaskStates?.["t"]?.State === "running", "a whole allocation");
const stopped = await client.DELETE("/v1/job/{job_id}", { params: { path: { job_id: name }, query: { purge: true } } });
demand(stopped.data?.EvalID, "an evaluation of the stop");
const gone = await client.GET("/v1/job/{job_id}", of);
demand(gone.response.status === 404, "it is gone");
console.log("typescript: all went well");
