//! Commands about jobs.

use super::{DETACH, ESCAPE, JSON, PLAIN, SESSION, STDIN, TASK, TEMPLATE, TTY, VERBOSE};
use crate::command::{
    Command, Reach, Runner, alloc_exec, deployment_wish, job_change, job_convert, job_history, job_inspect, job_launch,
    job_misc, job_plan, job_restart, job_run, job_status, job_stop,
};
use crate::flags::{Flag, Kind, flag, list, switch, text};

const VAR: Flag = list("var", "NAME=VALUE", "Value of a job variable.");
const VAR_FILE: Flag = list("var-file", "FILE", "File with values of job variables.");
const HCL2_STRICT: Flag = flag(
    "hcl2-strict",
    Kind::Bool,
    "true",
    "",
    "Whether a value for a variable that the job does not have is an error.",
);
const JSON_INPUT: Flag = switch("json", "The file is a job as JSON, as the API takes it.");
const EVAL_PRIORITY: Flag =
    flag("eval-priority", Kind::Int, "", "NUMBER", "Priority of the evaluation instead of the job's.");

pub static COMMANDS: &[Command] = &[
    Command {
        path: "job action",
        aliases: &["action"],
        usage: "[options] [action]",
        summary: "Runs an action that a job's task declares, or lists them",
        about: SESSION,
        reach: Reach::Namespace,
        flags: &[
            text("job", "NAME", "The job."),
            text("alloc", "ID", "The allocation to run it in; any that runs unless given."),
            text("group", "NAME", "The task group that has the action."),
            TASK,
            STDIN,
            TTY,
            ESCAPE,
        ],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(alloc_exec::action(cx))),
        ..PLAIN
    },
    Command {
        path: "job allocs",
        usage: "[options] <job>",
        summary: "Lists a job's allocations",
        reach: Reach::Namespace,
        flags: &[switch("all", "Those of earlier jobs of the same name too."), VERBOSE, JSON, TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(job_misc::allocs(cx))),
        ..PLAIN
    },
    Command {
        path: "job convert",
        usage: "[options] <path>",
        summary: "Writes a job file as JSON, a job's JSON or a docker-compose file as a job file",
        about: "The path is a file, `-` for stdin, or a web address. What it is follows from its name and text, unless -from \
            says it. A job's JSON is the API's. What has no counterpart is listed on stderr.",
        reach: Reach::Nobody,
        flags: &[
            text("from", "KIND", "What the file is: hcl, json or compose."),
            text("to", "KIND", "What to write: hcl or json."),
            text("out", "FILE", "Where to write it; stdout unless given."),
            VAR,
            VAR_FILE,
            HCL2_STRICT,
        ],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(job_convert::run(cx))),
        ..PLAIN
    },
    Command {
        path: "job deployments",
        usage: "[options] <job>",
        summary: "Lists a job's deployments",
        reach: Reach::Namespace,
        flags: &[
            switch("latest", "Show the latest one."),
            switch("all", "Those of earlier jobs of the same name too."),
            VERBOSE,
            JSON,
            TEMPLATE,
        ],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(job_misc::deployments(cx))),
        ..PLAIN
    },
    Command {
        path: "job dispatch",
        usage: "[options] <job> [input]",
        summary: "Runs a parameterized job once",
        about: "The input is a file, `-` for stdin; its bytes are the payload. Exit code 2 says that not everything could be \
            placed; 1, with -wait, that an allocation failed.",
        reach: Reach::Namespace,
        flags: &[
            DETACH,
            switch("wait", "Wait until the child has ended, and show what became of it."),
            VERBOSE,
            list("meta", "KEY=VALUE", "Metadata of the child."),
            text("id-prefix-template", "TEXT", "Put into the child's id."),
            text(
                "idempotency-token",
                "TOKEN",
                "While a child with this token is there, it is answered instead of another.",
            ),
            flag("priority", Kind::Int, "", "NUMBER", "Priority of the child instead of the job's."),
        ],
        args: (1, 2),
        runner: Runner::Client(|cx| Box::pin(job_launch::dispatch(cx))),
        ..PLAIN
    },
    Command {
        path: "job eval",
        usage: "[options] <job>",
        summary: "Has the schedulers look at a job again",
        about: "Exit code 2 says that not everything could be placed.",
        reach: Reach::Namespace,
        flags: &[switch("force-reschedule", "Replace failed allocations now."), DETACH, VERBOSE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(job_misc::evaluate(cx))),
        ..PLAIN
    },
    Command {
        path: "job history",
        usage: "[options] <job>",
        summary: "Shows the versions of a job",
        reach: Reach::Namespace,
        flags: &[
            switch("p", "Show what changed from version to version."),
            switch("full", "Show each version whole."),
            text("version", "NUMBER", "Only this version."),
            text("diff-version", "NUMBER", "Compare each version with this one."),
            text("diff-tag", "NAME", "Compare each version with the one of this name."),
            JSON,
            TEMPLATE,
        ],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(job_history::run(cx))),
        ..PLAIN
    },
    Command {
        path: "job init",
        aliases: &["init"],
        usage: "[options] [filename]",
        summary: "Writes an example job file",
        about: "The file is example.nomad.hcl unless named; one that is there is not replaced.",
        reach: Reach::Nobody,
        flags: &[switch("connect", "Of services in the service mesh."), switch("short", "Without comments.")],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(job_misc::init(cx))),
        ..PLAIN
    },
    Command {
        path: "job inspect",
        aliases: &["inspect"],
        usage: "[options] <job>",
        summary: "Prints a job as JSON, or the file it was submitted as",
        reach: Reach::Namespace,
        flags: &[
            switch("hcl", "Print the file it was submitted as."),
            switch("with-vars", "Print the variables it was submitted with too, with -hcl."),
            text("version", "NUMBER", "Of this version."),
            JSON,
            TEMPLATE,
        ],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(job_inspect::run(cx))),
        ..PLAIN
    },
    Command {
        path: "job periodic force",
        usage: "[options] <job>",
        summary: "Launches a periodic job now",
        about: "Whatever its schedule says and whatever of it still runs. Exit code 2 says that not everything could be placed.",
        reach: Reach::Namespace,
        flags: &[DETACH, VERBOSE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(job_launch::force(cx))),
        ..PLAIN
    },
    Command {
        path: "job plan",
        aliases: &["plan"],
        usage: "[options] <path>",
        summary: "Shows what running a job file would do, without doing it",
        about: "The path is a file in HCL, `-` for stdin, or a web address. NOMAD_VAR_name=value or STEPPE_VAR_name=value in the environment sets a job variable; \
            -var-file is stronger than that, and -var is the strongest.\n\nExit codes: 0, no allocation would be \
            made or ended; 1, some would be; 255, an error.",
        reach: Reach::Namespace,
        flags: &[
            flag("diff", Kind::Bool, "true", "", "Whether to show what would change in the job."),
            JSON_INPUT,
            switch("json-output", "Print the API's answer as JSON."),
            TEMPLATE,
            VAR,
            VAR_FILE,
            HCL2_STRICT,
            switch("policy-override", "Pass over soft-mandatory policies."),
            text("vault-namespace", "NAME", "Vault namespace of the job."),
            VERBOSE,
        ],
        args: (1, 1),
        code_error: 255,
        runner: Runner::Client(|cx| Box::pin(job_plan::run(cx))),
        ..PLAIN
    },
    Command {
        path: "job promote",
        usage: "[options] <job>",
        summary: "Promotes the canaries of a job's latest deployment",
        about: "Exit code 2 says that not everything could be placed.",
        reach: Reach::Namespace,
        flags: &[DETACH, VERBOSE, list("group", "NAME", "Only this group; may be given several times.")],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(deployment_wish::promote_job(cx))),
        ..PLAIN
    },
    Command {
        path: "job restart",
        usage: "[options] <job>",
        summary: "Restarts a job's allocations, a batch after the other",
        about: "Tasks restart in place, without a new version or a deployment; with -reschedule, allocations are \
            stopped and the next batch waits until their replacements run. Without -task and -all-tasks, the tasks \
            that run now restart. Exit code 1 says that not everything was restarted.",
        reach: Reach::Namespace,
        flags: &[
            switch("all-tasks", "Restart tasks that have ended, too."),
            flag(
                "batch-size",
                Kind::Text,
                "1",
                "NUMBER",
                "Allocations of a batch: a number, or a percentage of them all.",
            ),
            flag(
                "batch-wait",
                Kind::Text,
                "0s",
                "TIME",
                "How long to wait between batches, or `ask`. An answer that is a time counts for all that follow.",
            ),
            list("group", "NAME", "Only this group; may be given several times."),
            switch("no-shutdown-delay", "Ignore the groups' and tasks' shutdown_delay, with -reschedule."),
            flag(
                "on-error",
                Kind::Text,
                "ask",
                "ACTION",
                "What to do when a batch had errors: `ask`, or `fail`, which ends the command. Without a terminal, ask is fail.",
            ),
            switch("reschedule", "Stop allocations, so that others take their place."),
            list("task", "NAME", "Only this task; may be given several times."),
            switch("yes", "Do not ask: go on in spite of errors, and without a stop between batches."),
            VERBOSE,
        ],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(job_restart::run(cx))),
        ..PLAIN
    },
    Command {
        path: "job revert",
        usage: "[options] <job> <version|tag>",
        summary: "Goes back to a version of a job",
        about: "What that version asked for becomes a new version. Exit code 2 says that not everything could be placed.",
        reach: Reach::Namespace,
        flags: &[DETACH, VERBOSE],
        args: (2, 2),
        runner: Runner::Client(|cx| Box::pin(job_change::revert(cx))),
        ..PLAIN
    },
    Command {
        path: "job run",
        aliases: &["run"],
        usage: "[options] <path>",
        summary: "Runs a job file, or updates the job it names",
        about: "The path is a file in HCL, `-` for stdin, or a web address. NOMAD_VAR_name=value or STEPPE_VAR_name=value in the environment sets a job variable; \
            -var-file is stronger than that, and -var is the strongest.\n\nWatches the evaluation and, of a \
            service, the deployment. Exit code 1 says that something failed, the deployment too; 2 that not \
            everything could be placed.",
        reach: Reach::Namespace,
        flags: &[
            DETACH,
            VAR,
            VAR_FILE,
            JSON_INPUT,
            switch("output", "Print the job as JSON and run nothing."),
            text("check-index", "INDEX", "Run only if the job was last modified at this index; 0, if it is new."),
            EVAL_PRIORITY,
            HCL2_STRICT,
            switch("preserve-counts", "Keep the groups' present counts."),
            switch("preserve-resources", "Keep the tasks' present resources."),
            switch("policy-override", "Pass over soft-mandatory policies."),
            text("consul-namespace", "NAME", "Consul namespace of the job."),
            text("vault-namespace", "NAME", "Vault namespace of the job."),
            VERBOSE,
        ],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(job_run::run(cx))),
        ..PLAIN
    },
    Command {
        path: "job scale",
        usage: "[options] <job> [<group>] <count>",
        summary: "Sets the count of a job's group",
        about: "The group may be left out where there is one. Exit code 2 says that not everything could be placed.",
        reach: Reach::Namespace,
        flags: &[
            flag("check-index", Kind::Uint, "", "INDEX", "Only if the job was last modified at this index."),
            DETACH,
            VERBOSE,
        ],
        args: (2, 3),
        runner: Runner::Client(|cx| Box::pin(job_change::scale(cx))),
        ..PLAIN
    },
    Command {
        path: "job scaling-events",
        usage: "[options] <job>",
        summary: "Lists how a job was scaled, newest first",
        reach: Reach::Namespace,
        flags: &[VERBOSE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(job_change::scaling_events(cx))),
        ..PLAIN
    },
    Command {
        path: "job start",
        aliases: &["start"],
        usage: "[options] <job>",
        summary: "Starts a stopped job again",
        about: "Exit code 2 says that not everything could be placed.",
        reach: Reach::Namespace,
        flags: &[DETACH, VERBOSE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(job_change::start(cx))),
        ..PLAIN
    },
    Command {
        path: "job status",
        usage: "[options] [job]",
        summary: "Shows a job with its groups, deployment and allocations",
        about: "The id may be shortened. Without one, lists the jobs.",
        reach: Reach::Namespace,
        flags: &[
            switch("short", "Only the job itself."),
            switch("evals", "Its evaluations too."),
            switch("all-allocs", "Allocations of earlier jobs of the same name too."),
            VERBOSE,
            JSON,
            TEMPLATE,
        ],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(job_status::run(cx))),
        ..PLAIN
    },
    Command {
        path: "job stop",
        aliases: &["stop"],
        usage: "[options] <job> [<job> …]",
        summary: "Stops jobs",
        about: "A shortened id is asked about, unless -yes.",
        reach: Reach::Namespace,
        flags: &[
            DETACH,
            switch("purge", "Forget the job too."),
            switch("yes", "Do not ask."),
            switch("global", "In all of its regions."),
            switch("no-shutdown-delay", "Ignore the groups' and tasks' shutdown_delay."),
            EVAL_PRIORITY,
            VERBOSE,
        ],
        args: (1, 64),
        runner: Runner::Client(|cx| Box::pin(job_stop::run(cx))),
        ..PLAIN
    },
    Command {
        path: "job tag apply",
        usage: "[options] <job>",
        summary: "Names a version of a job",
        about: "A version with a name is kept, whatever comes after it.",
        reach: Reach::Namespace,
        flags: &[
            text("name", "NAME", "The name."),
            text("description", "TEXT", "What it is for."),
            text("version", "NUMBER", "The version; the latest unless given."),
        ],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(job_change::tag(cx))),
        ..PLAIN
    },
    Command {
        path: "job tag unset",
        usage: "-name <tag> <job>",
        summary: "Takes the name of a version away",
        reach: Reach::Namespace,
        flags: &[text("name", "NAME", "The name.")],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(job_change::untag(cx))),
        ..PLAIN
    },
    Command {
        path: "job validate",
        aliases: &["validate"],
        usage: "[options] <path>",
        summary: "Checks a job file",
        about: "The path is a file in HCL, `-` for stdin, or a web address. Exit codes: 0, it is valid; 1, it is not; 255, it cannot be read or understood.",
        reach: Reach::Namespace,
        flags: &[
            JSON_INPUT,
            VAR,
            VAR_FILE,
            HCL2_STRICT,
            text("vault-namespace", "NAME", "Vault namespace of the job."),
        ],
        args: (1, 1),
        code_error: 255,
        runner: Runner::Client(|cx| Box::pin(job_plan::validate(cx))),
        ..PLAIN
    },
];
