import java.util.List;
import java.util.Map;
import steppe.client.ApiClient;
import steppe.client.ApiException;
import steppe.client.api.AllocationsApi;
import steppe.client.api.JobsApi;
import steppe.client.model.*;

/** Runs a job with the generated Java client. */
public final class Day {
  private static final String NAME = "made-by-java";

  private static void demand(boolean good, String what) {
    if (!good) throw new IllegalStateException("not so: " + what);
  }

  public static void main(String[] args) throws Exception {
    ApiClient client = new ApiClient();
    client.updateBaseUri(args[0]);
    JobsApi jobs = new JobsApi(client);
    Map<String, Object> config = Map.of("command", "/bin/sh", "args", List.of("-c", "exec sleep 1000"));
    Task task = new Task().name("t").driver("raw_exec").config(config);
    TaskGroup group = new TaskGroup().name("g").count(2L).tasks(List.of(task));
    Job job = new Job().ID(NAME).datacenters(List.of("*")).taskGroups(List.of(group));
    JobRegisterResponse registered =
        jobs.registerJob(new JobRegisterRequest().job(job), null, null, null, null);
    demand(!registered.getEvalID().isEmpty() && registered.getJobModifyIndex() > 0, "an evaluation");

    long until = System.nanoTime() + 60_000_000_000L;
    List<AllocStub> running = List.of();
    while (running.size() < 2) {
      demand(System.nanoTime() < until, "two run in time");
      Thread.sleep(50);
      running =
          jobs.listJobAllocations(NAME, null, null, null, null, null, null, null).stream()
              .filter(alloc -> alloc.getClientStatus() == ClientStatus.RUNNING)
              .toList();
    }
    Allocation whole =
        new AllocationsApi(client).readAllocation(running.get(0).getID(), null, null, null, null, null, null);
    demand(whole.getTaskStates().get("t").getState() == TaskStateKind.RUNNING, "a whole allocation");
    demand(whole.getJob().getTaskGroups().get(0).getTasks().get(0).getDriver().equals("raw_exec"), "its job");
    demand(!jobs.stopJob(NAME, true, null, null, null, null, null, null, null).getEvalID().isEmpty(), "a stop");
    try {
      jobs.readJob(NAME, null, null, null, null, null, null);
      demand(false, "it is gone");
    } catch (ApiException error) {
      demand(error.getCode() == 404, "404, not " + error.getCode());
    }
    System.out.println("java: all went well");
  }
}
