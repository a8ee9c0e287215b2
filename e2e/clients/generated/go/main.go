// Runs a job with the generated Go client.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	steppe "steppe.local/steppe/client"
)

const name = "made-by-go"

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func demand(good bool, what string) {
	if !good {
		panic("not so: " + what)
	}
}

func main() {
	ctx := context.Background()
	settings := steppe.NewConfiguration()
	settings.Servers = steppe.ServerConfigurations{{URL: os.Args[1]}}
	c := steppe.NewAPIClient(settings)

	var command, args any = "/bin/sh", []string{"-c", "echo hello; exec sleep 1000"}
	task := steppe.NewTask()
	task.SetName("t")
	task.SetDriver("raw_exec")
	task.SetConfig(map[string]*any{"command": &command, "args": &args})
	group := steppe.NewTaskGroup()
	group.SetName("g")
	group.SetCount(2)
	group.SetTasks([]steppe.Task{*task})
	job := steppe.NewJob()
	job.SetID(name)
	job.SetDatacenters([]string{"*"})
	job.SetTaskGroups([]steppe.TaskGroup{*group})
	request := steppe.NewJobRegisterRequest()
	request.SetJob(*job)
	registered, _, err := c.JobsAPI.RegisterJob(ctx).JobRegisterRequest(*request).Execute()
	check(err)
	demand(registered.GetEvalID() != "", "an evaluation")

	running := ""
	for until := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		demand(time.Now().Before(until), "two run in time")
		allocs, answer, err := c.JobsAPI.ListJobAllocations(ctx, name).Execute()
		check(err)
		demand(answer.Header.Get("X-Nomad-Index") != "", "an index")
		count := 0
		for _, alloc := range allocs {
			if alloc.GetClientStatus() == steppe.CLIENTSTATUS_RUNNING {
				running = alloc.GetID()
				count++
			}
		}
		if count == 2 {
			break
		}
	}
	whole, _, err := c.AllocationsAPI.ReadAllocation(ctx, running).Execute()
	check(err)
	demand(whole.GetJobID() == name && whole.GetTaskStates()["t"].State != nil, "a whole allocation")
	stopped, _, err := c.JobsAPI.StopJob(ctx, name).Purge(true).Execute()
	check(err)
	demand(stopped.GetEvalID() != "", "an evaluation of the stop")
	_, answer, err := c.JobsAPI.ReadJob(ctx, name).Execute()
	demand(err != nil && answer.StatusCode == 404, "it is gone")
	fmt.Println("go: all went well")
}
