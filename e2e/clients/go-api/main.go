// A day with github.com/hashicorp/nomad/api, as published: every step is a call of that module against a
// running cluster.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"
)

const name = "go-api"

func check(err error) {
	if err != nil {
		_, _, line, _ := runtime.Caller(1)
		fmt.Fprintf(os.Stderr, "main.go:%d: %v\n", line, err)
		os.Exit(1)
	}
}

func demand(good bool, what string, values ...any) {
	if !good {
		_, _, line, _ := runtime.Caller(1)
		fmt.Fprintf(os.Stderr, "main.go:%d: not so: %s %+v\n", line, what, values)
		os.Exit(1)
	}
}

func eventually(what string, good func() bool) {
	for until := time.Now().Add(60 * time.Second); !good(); time.Sleep(50 * time.Millisecond) {
		demand(time.Now().Before(until), "in time: "+what)
	}
}

func ptr[T any](v T) *T { return &v }

func job(count int, script string) *api.Job {
	task := api.NewTask("talk", "raw_exec").
		SetConfig("command", "/bin/sh").
		SetConfig("args", []string{"-c", script}).
		Require(&api.Resources{CPU: ptr(20), MemoryMB: ptr(20)})
	group := api.NewTaskGroup("web", count).AddTask(task)
	group.Scaling = &api.ScalingPolicy{Min: ptr(int64(0)), Max: ptr(int64(10)), Enabled: ptr(true)}
	job := api.NewServiceJob(name, name, "global", 50).AddTaskGroup(group).SetMeta("made-by", "go")
	job.Datacenters = []string{"*"}
	job.Update = &api.UpdateStrategy{
		MaxParallel:    ptr(2),
		HealthCheck:    ptr("task_states"),
		MinHealthyTime: ptr(100 * time.Millisecond),
	}
	return job
}

const lines = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.1; done"

// changed asks for an answer newer than the one at hand, and gives what comes.
func changed(ask func(*api.QueryOptions) (*api.QueryMeta, error)) chan *api.QueryMeta {
	now, err := ask(&api.QueryOptions{})
	check(err)
	demand(now.LastIndex > 0 && now.KnownLeader, "an index to wait on", now)
	answer := make(chan *api.QueryMeta, 1)
	go func() {
		meta, err := ask(&api.QueryOptions{WaitIndex: now.LastIndex, WaitTime: time.Minute})
		check(err)
		demand(meta.LastIndex > now.LastIndex && meta.RequestTime < time.Minute, "newer", meta, now)
		answer <- meta
	}()
	return answer
}

// pages reads all rows, page by page.
func pages[T any](size int32, filter string, ask func(*api.QueryOptions) ([]T, *api.QueryMeta, error)) []T {
	var rows []T
	token := ""
	for {
		page, meta, err := ask(&api.QueryOptions{PerPage: size, NextToken: token, Filter: filter})
		check(err)
		demand(len(page) <= int(size), "no page is larger than asked for", len(page))
		rows = append(rows, page...)
		if token = meta.NextToken; token == "" {
			return rows
		}
		demand(len(page) == int(size), "only the last page is smaller", len(page))
	}
}

func running(c *api.Client, count int, version uint64) []*api.AllocationListStub {
	var found []*api.AllocationListStub
	eventually(fmt.Sprintf("%d of version %d run", count, version), func() bool {
		all, _, err := c.Jobs().Allocations(name, false, nil)
		check(err)
		found = nil
		for _, alloc := range all {
			if alloc.ClientStatus == "running" && alloc.DesiredStatus == "run" && alloc.JobVersion == version {
				found = append(found, alloc)
			}
		}
		return len(found) == count
	})
	return found
}

func cluster(c *api.Client) {
	leader, err := c.Status().Leader()
	check(err)
	peers, err := c.Status().Peers()
	check(err)
	demand(leader != "" && len(peers) == 3, "three servers, one leads", leader, peers)
	regions, err := c.Regions().List()
	check(err)
	demand(len(regions) == 1 && regions[0] == "global", "one region", regions)
	self, err := c.Agent().Self()
	check(err)
	demand(self.Member.Name != "" || self.Config["Region"] == "global", "an agent", self)
	members, err := c.Agent().Members()
	check(err)
	demand(len(members.Members) == 3, "three members", members)
	raft, err := c.Operator().RaftGetConfiguration(nil)
	check(err)
	demand(len(raft.Servers) == 3, "three voters", raft)
	config, _, err := c.Operator().SchedulerGetConfiguration(nil)
	check(err)
	demand(config.SchedulerConfig.SchedulerAlgorithm == "binpack", "binpack", config)
	// A server that heard of its leader a moment late is unhealthy until it is looked at again.
	eventually("all are healthy", func() bool {
		health, _, err := c.Operator().AutopilotServerHealth(nil)
		check(err)
		return health.Healthy && len(health.Servers) == 3
	})
	spaces, _, err := c.Namespaces().List(nil)
	check(err)
	demand(len(spaces) == 1 && spaces[0].Name == "default", "one namespace", spaces)
	pools, _, err := c.NodePools().List(nil)
	check(err)
	demand(len(pools) == 2, "two node pools", pools)
}

func nodes(c *api.Client) {
	ready, _, err := c.Nodes().List(&api.QueryOptions{Filter: `Status == "ready"`, Params: map[string]string{"resources": "true"}})
	check(err)
	demand(len(ready) == 2 && ready[0].NodeResources.Cpu.CpuShares > 0, "two are ready", ready)
	none, _, err := c.Nodes().List(&api.QueryOptions{Filter: `Name == "nobody"`})
	check(err)
	demand(len(none) == 0, "nobody is not there", none)
	both := pages(1, "", c.Nodes().List)
	demand(len(both) == 2 && both[0].ID != both[1].ID, "a page each", both)
	back, _, err := c.Nodes().List(&api.QueryOptions{Reverse: true, PerPage: 1})
	check(err)
	demand(back[0].ID == both[1].ID, "the other way round", back)
	_, _, err = c.Nodes().List(&api.QueryOptions{Filter: "(("})
	demand(err != nil && strings.Contains(err.Error(), "400"), "a bad filter is refused", err)
	prefixed, _, err := c.Nodes().PrefixList(ready[0].ID[:8])
	check(err)
	demand(len(prefixed) == 1, "found by prefix", prefixed)
	whole, _, err := c.Nodes().Info(ready[0].ID, nil)
	check(err)
	demand(whole.Drivers["raw_exec"].Healthy && whole.Attributes["kernel.name"] == "linux", "a whole node", whole)
	stats, err := c.Nodes().Stats(ready[0].ID, nil)
	check(err)
	demand(stats.Memory.Total > 0, "usage", stats)
	_, _, err = c.Nodes().Info("12345678-1234-1234-1234-123456789012", nil)
	demand(err != nil && strings.Contains(err.Error(), "404"), "no such node", err)
}

func plan(c *api.Client, job *api.Job, kind string, place uint64) {
	planned, _, err := c.Jobs().Plan(job, true, nil)
	check(err)
	demand(planned.Diff.Type == kind && len(planned.FailedTGAllocs) == 0, kind, planned.Diff)
	demand(planned.Annotations.DesiredTGUpdates["web"].Place == place, "so many are placed", planned.Annotations)
	if kind == "Edited" {
		now, _, err := c.Jobs().Info(name, nil)
		check(err)
		demand(planned.JobModifyIndex == *now.JobModifyIndex, "the index to check at", planned.JobModifyIndex)
	}
}

func deployed(c *api.Client, version uint64) {
	eventually(fmt.Sprintf("version %d is deployed", version), func() bool {
		latest, _, err := c.Jobs().LatestDeployment(name, nil)
		check(err)
		return latest != nil && latest.JobVersion == version && latest.Status == "successful"
	})
}

func register(c *api.Client) string {
	parsed, err := c.Jobs().ParseHCL("job \"x\" {\n group \"g\" {\n task \"t\" {\n driver = \"raw_exec\"\n }\n }\n}\n", true)
	check(err)
	demand(*parsed.ID == "x" && *parsed.TaskGroups[0].Count == 1, "parsed", parsed)
	valid, _, err := c.Jobs().Validate(job(2, lines), nil)
	check(err)
	demand(valid.Error == "" && valid.DriverConfigValidated, "valid", valid)
	plan(c, job(2, lines), "Added", 2)
	_, _, err = c.Jobs().Info(name, nil)
	demand(err != nil && strings.Contains(err.Error(), "404"), "a plan changes nothing", err)

	watch := changed(func(q *api.QueryOptions) (*api.QueryMeta, error) {
		_, meta, err := c.Jobs().List(q)
		return meta, err
	})
	registered, _, err := c.Jobs().Register(job(2, lines), nil)
	check(err)
	demand(registered.EvalID != "" && registered.JobModifyIndex > 0 && registered.Warnings == "", "registered", registered)
	<-watch
	first := running(c, 2, 0)
	_, _, err = c.Jobs().EnforceRegister(job(4, lines), 1, nil)
	demand(err != nil && strings.Contains(err.Error(), api.RegisterEnforceIndexErrPrefix), "at another index", err)
	_, _, err = c.Jobs().Register(api.NewServiceJob("bad", "bad", "global", 50), nil)
	demand(err != nil && strings.Contains(strings.ToLower(err.Error()), "task group"), "a bad job is refused", err)

	plan(c, job(3, lines), "Edited", 1)
	now, _, err := c.Jobs().Info(name, nil)
	check(err)
	_, _, err = c.Jobs().EnforceRegister(job(3, lines), *now.JobModifyIndex, nil)
	check(err)
	deployed(c, 1)
	kept := 0
	for _, alloc := range running(c, 3, 1) {
		for _, before := range first {
			if before.ID == alloc.ID {
				kept++
			}
		}
	}
	demand(kept == 2, "those that ran are kept", kept)
	versions, diffs, _, err := c.Jobs().Versions(name, true, nil)
	check(err)
	demand(len(versions) == 2 && *versions[0].Version == 1 && len(diffs) == 1, "two versions", versions, diffs)
	summary, _, err := c.Jobs().Summary(name, nil)
	check(err)
	demand(summary.Summary["web"].Running == 3, "summary", summary)
	return registered.EvalID
}

func scale(c *api.Client) string {
	watch := changed(func(q *api.QueryOptions) (*api.QueryMeta, error) {
		_, meta, err := c.Jobs().Allocations(name, false, q)
		return meta, err
	})
	scaled, _, err := c.Jobs().Scale(name, "web", ptr(5), "more of it", false, map[string]any{"by": "go"}, nil)
	check(err)
	<-watch
	deployed(c, 2)
	running(c, 5, 2)
	status, _, err := c.Jobs().ScaleStatus(name, nil)
	check(err)
	web := status.TaskGroups["web"]
	demand(web.Desired == 5 && web.Running == 5 && web.Events[0].Message == "more of it", "scaled", status)
	policies, _, err := c.Scaling().ListPolicies(nil)
	check(err)
	demand(len(policies) == 1 && policies[0].Target["Group"] == "web", "one policy", policies)
	policy, _, err := c.Scaling().GetPolicy(policies[0].ID, nil)
	check(err)
	demand(*policy.Max == 10, "its bounds", policy)
	_, _, err = c.Jobs().Scale(name, "web", ptr(50), "too much of it", false, nil, nil)
	demand(err != nil, "more than the policy allows is refused")
	return scaled.EvalID
}

func lists(c *api.Client, evals ...string) *api.Allocation {
	ours := fmt.Sprintf("JobID == %q", name)
	allocs := pages(2, ours+` and ClientStatus == "running"`, c.Allocations().List)
	demand(len(allocs) == 5, "five run", allocs)
	prefixed, _, err := c.Allocations().PrefixList(allocs[0].ID[:8])
	check(err)
	demand(len(prefixed) == 1 && prefixed[0].TaskStates["talk"].State == "running", "by prefix", prefixed)
	alloc, _, err := c.Allocations().Info(allocs[0].ID, nil)
	check(err)
	demand(*alloc.Job.ID == name && alloc.AllocatedResources.Tasks["talk"].Memory.MemoryMB == 20, "whole", alloc)
	here, _, err := c.Nodes().Allocations(alloc.NodeID, nil)
	check(err)
	demand(len(here) > 0 && *here[0].Job.ID == name, "on its node", here)

	found := map[string]bool{}
	for _, eval := range pages(1, ours, c.Evaluations().List) {
		demand(!found[eval.ID] && eval.JobID == name, "no evaluation comes twice", eval.ID)
		found[eval.ID] = true
	}
	for _, id := range evals {
		eval, _, err := c.Evaluations().Info(id, nil)
		check(err)
		demand(found[id] && eval.Status == "complete", "it is listed", id, eval)
	}
	of, _, err := c.Evaluations().Allocations(evals[1], nil)
	check(err)
	demand(len(of) == 5, "what the last evaluation placed or changed", of)
	count, _, err := c.Evaluations().Count(&api.QueryOptions{Filter: ours})
	check(err)
	demand(count.Count == len(found), "they are counted", count, len(found))
	of2, _, err := c.Jobs().Evaluations(name, nil)
	check(err)
	demand(len(of2) == len(found), "of the job", of2)
	return alloc
}

func output(c *api.Client, alloc *api.Allocation) {
	cancel := make(chan struct{})
	frames, errors := c.AllocFS().Logs(alloc, true, "talk", "stdout", "start", 0, cancel, nil)
	text := ""
	for limit := time.After(60 * time.Second); !strings.Contains(text, "line 5\n"); {
		select {
		case frame := <-frames:
			text += string(frame.Data)
		case err := <-errors:
			check(err)
		case <-limit:
			demand(false, "its output is followed", text)
		}
	}
	close(cancel)
	demand(strings.HasPrefix(text, "line 1\nline 2\n"), "from the beginning", text)
	files, _, err := c.AllocFS().List(alloc, "/alloc/logs", nil)
	check(err)
	demand(len(files) > 0, "files", files)
	stat, _, err := c.AllocFS().Stat(alloc, "alloc/logs/talk.stdout.0", nil)
	check(err)
	demand(stat.Size > 0 && !stat.IsDir, "a file", stat)
	for _, read := range []func() (io.ReadCloser, error){
		func() (io.ReadCloser, error) { return c.AllocFS().Cat(alloc, "alloc/logs/talk.stdout.0", nil) },
		func() (io.ReadCloser, error) { return c.AllocFS().ReadAt(alloc, "alloc/logs/talk.stdout.0", 0, 7, nil) },
	} {
		reader, err := read()
		check(err)
		content, err := io.ReadAll(reader)
		check(err)
		check(reader.Close())
		demand(strings.HasPrefix(string(content), "line 1\n"), "read", string(content))
	}
	var out, errs bytes.Buffer
	code, err := c.Allocations().Exec(context.Background(), alloc, "talk", false,
		[]string{"/bin/sh", "-c", "cat; echo oh >&2; exit 3"}, strings.NewReader("hello"), &out, &errs, nil, nil)
	check(err)
	demand(code == 3 && out.String() == "hello" && errs.String() == "oh\n", "exec", code, out.String(), errs.String())
	usage, err := c.Allocations().Stats(alloc, nil)
	check(err)
	demand(usage.Tasks["talk"] != nil, "usage of a task", usage)
}

func stop(c *api.Client) {
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	events, err := c.EventStream().Stream(ctx, map[api.Topic][]string{api.TopicJob: {name}}, 0, nil)
	check(err)
	matches, _, err := c.Search().PrefixSearch("go-", "jobs", nil)
	check(err)
	demand(len(matches.Matches["jobs"]) == 1, "found", matches)
	watch := changed(func(q *api.QueryOptions) (*api.QueryMeta, error) {
		info, meta, err := c.Jobs().Info(name, q)
		if q.WaitIndex > 0 && err == nil {
			demand(*info.Stop, "the watcher sees it stopped")
		}
		return meta, err
	})
	eval, _, err := c.Jobs().Deregister(name, false, nil)
	check(err)
	demand(eval != "", "an evaluation")
	<-watch
	for stopped := false; !stopped; {
		select {
		case told := <-events:
			check(told.Err)
			for _, event := range told.Events {
				job, err := event.Job()
				check(err)
				demand(event.Topic == api.TopicJob && *job.ID == name, "an event of the job", event)
				stopped = stopped || *job.Stop
			}
		case <-time.After(60 * time.Second):
			demand(false, "the end is seen as an event")
		}
	}
	eventually("all ended", func() bool {
		all, _, err := c.Jobs().Allocations(name, true, nil)
		check(err)
		for _, alloc := range all {
			if alloc.ClientStatus == "running" {
				return false
			}
		}
		return true
	})
	_, _, err = c.Jobs().Deregister(name, true, nil)
	check(err)
	eventually("it is forgotten", func() bool {
		_, _, err := c.Jobs().Info(name, nil)
		return err != nil && strings.Contains(err.Error(), "404")
	})
	check(c.System().GarbageCollect())
}

func main() {
	c, err := api.NewClient(&api.Config{Address: os.Args[1]})
	check(err)
	cluster(c)
	nodes(c)
	first := register(c)
	second := scale(c)
	alloc := lists(c, first, second)
	output(c, alloc)
	stop(c)
	fmt.Println("go-api: all went well")
}
