//! Every command there is.

use super::{
    Command, Reach, Runner, alloc_act, alloc_exec, alloc_fs, alloc_logs, alloc_status, alloc_stop, complete,
    deployment, deployment_wish, eval, eval_delete, job_change, job_history, job_inspect, job_launch, job_misc,
    job_plan, job_run, job_status, job_stop, namespace, node_drain, node_eligibility, node_intro, node_meta, node_pool,
    node_status, operator, operator_care, operator_snapshot, scheduler, server, status, system,
};
use crate::flags::{Flag, Kind, flag, list, switch, text};
use crate::{agent, local, serve};

const JSON: Flag = switch("json", "Print the API's answer as JSON.");
const TEMPLATE: Flag = text("t", "TEMPLATE", "Print the API's answer by a Go template.");
const VERBOSE: Flag = switch("verbose", "Print full ids and exact times.");
const DETACH: Flag = switch("detach", "Return at once, printing the evaluation's id, instead of watching.");
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
const PER_PAGE: Flag = flag("per-page", Kind::Uint, "", "NUMBER", "How many rows to list.");
const PAGE_TOKEN: Flag = text("page-token", "TOKEN", "Where the page before ended.");
const FILTER: Flag = text("filter", "EXPRESSION", "List only rows for which this holds.");

/// A command that is not worth a field.
const PLAIN: Command = Command {
    path: "",
    aliases: &[],
    usage: "[options]",
    summary: "",
    about: "",
    reach: Reach::Cluster,
    flags: &[],
    args: (0, 0),
    verbatim_after: usize::MAX,
    code_error: 1,
    hidden: false,
    runner: Runner::Client(|_| Box::pin(async { Ok(1) })),
};

const NODE_ID: Flag = text("node-id", "NODE", "The node, by id or name; the one at -address unless given.");
const TASK: Flag = text("task", "NAME", "The task.");
const STDIN: Flag =
    flag("i", Kind::Bool, "true", "", "Whether to pass stdin on; -i=false closes it for the command at once.");
const TTY: Flag = flag("t", Kind::Bool, "", "", "Whether to use a terminal. Default: when stdin and stdout are one.");
const ESCAPE: Flag = flag(
    "e",
    Kind::Text,
    "~",
    "CHARACTER",
    "Escape character of sessions with a terminal: at the beginning of a line, with a dot it ends the session. `none` turns it off.",
);
const SESSION: &str = "The exit code is the command's own; 128 and the signal's number when a signal ended it; 1 when \
    the session failed.\n\nWith a terminal, `~.` at the beginning of a line ends the session, and `~~` types a tilde.";

pub static COMMANDS: &[Command] = &[
    Command {
        path: "alloc checks",
        usage: "[options] <allocation>",
        summary: "Shows the state of an allocation's service checks",
        about: "Services cannot be registered yet, so there are none.",
        reach: Reach::Namespace,
        flags: &[VERBOSE, JSON, TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(alloc_act::checks(cx))),
        ..PLAIN
    },
    Command {
        path: "alloc exec",
        aliases: &["exec"],
        usage: "[options] <allocation> <command> [args…]",
        summary: "Runs a command beside an allocation's task",
        about: SESSION,
        reach: Reach::Namespace,
        flags: &[
            STDIN,
            TTY,
            ESCAPE,
            TASK,
            switch("job", "The argument is a job: any of its allocations, preferably a running one."),
            text("group", "NAME", "The task group, with -job."),
        ],
        args: (2, usize::MAX),
        verbatim_after: 2,
        runner: Runner::Client(|cx| Box::pin(alloc_exec::exec(cx))),
        ..PLAIN
    },
    Command {
        path: "alloc fs",
        aliases: &["fs"],
        usage: "[options] <allocation> [path]",
        summary: "Lists an allocation's directories and prints its files",
        about: "The path is in the allocation's directory: `alloc/` is what its tasks share, `<task>/local/` is a task's \
            own. A directory is listed, a file printed. Secrets are not shown.",
        reach: Reach::Namespace,
        flags: &[
            switch("H", "Exact sizes and times, for machines."),
            switch("stat", "Only what the path is."),
            switch("f", "Go on as the file grows."),
            switch("tail", "Only the end: 10 lines unless -n or -c says otherwise."),
            flag("n", Kind::Int, "-1", "LINES", "Lines to begin from the end, with -tail."),
            flag("c", Kind::Int, "-1", "BYTES", "Bytes to begin from the end, with -tail."),
            switch("job", "The argument is a job: any of its allocations, preferably a running one."),
            text("group", "NAME", "The task group, with -job."),
            VERBOSE,
        ],
        args: (1, 2),
        runner: Runner::Client(|cx| Box::pin(alloc_fs::run(cx))),
        ..PLAIN
    },
    Command {
        path: "alloc restart",
        usage: "[options] <allocation> [task]",
        summary: "Restarts an allocation's tasks where they are",
        about: "All that run, or the one that is named. It does not count as an attempt of the restart policy.",
        reach: Reach::Namespace,
        flags: &[switch("all-tasks", "Those that ended, too."), TASK, VERBOSE],
        args: (1, 2),
        runner: Runner::Client(|cx| Box::pin(alloc_act::restart(cx))),
        ..PLAIN
    },
    Command {
        path: "alloc signal",
        usage: "[options] <allocation> [task]",
        summary: "Sends a signal to an allocation's tasks",
        about: "All that run, or the one that is named.",
        reach: Reach::Namespace,
        flags: &[flag("s", Kind::Text, "SIGKILL", "SIGNAL", "The signal, with or without SIG."), TASK, VERBOSE],
        args: (1, 2),
        runner: Runner::Client(|cx| Box::pin(alloc_act::signal(cx))),
        ..PLAIN
    },
    Command {
        path: "completion",
        usage: "<shell>",
        summary: "Prints the completion script of a shell: bash, zsh or fish",
        about: "For this session: `source <(steppe completion bash)`. For all: `steppe -autocomplete-install`, or in \
            fish `steppe completion fish > ~/.config/fish/completions/steppe.fish`. Commands, flags, and ids of the \
            cluster at -address are completed.",
        reach: Reach::Nobody,
        args: (1, 1),
        runner: Runner::Process(complete::script),
        ..PLAIN
    },
    Command {
        path: "__complete",
        usage: "-- [words…]",
        summary: "Prints what could stand in place of the last word; asked by the scripts of `completion`",
        reach: Reach::Nobody,
        args: (0, usize::MAX),
        hidden: true,
        runner: Runner::Process(complete::candidates),
        ..PLAIN
    },
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
        path: "alloc logs",
        aliases: &["logs"],
        usage: "[options] <allocation> [task]",
        summary: "Prints what an allocation's task writes",
        about: "Prints stdout and stderr, each to its own. The task must be named when there are several.",
        reach: Reach::Namespace,
        flags: &[
            switch("stdout", "Only stdout."),
            switch("stderr", "Only stderr."),
            switch("f", "Go on as the task writes."),
            switch("tail", "Only the end: 10 lines unless -n or -c says otherwise."),
            flag("n", Kind::Int, "-1", "LINES", "Lines to begin from the end, with -tail."),
            flag("c", Kind::Int, "-1", "BYTES", "Bytes to begin from the end, with -tail."),
            switch("job", "The argument is a job: any of its allocations, preferably a running one."),
            text("task", "NAME", "The task."),
            text("group", "NAME", "The task group, with -job."),
            VERBOSE,
        ],
        args: (1, 2),
        runner: Runner::Client(|cx| Box::pin(alloc_logs::run(cx))),
        ..PLAIN
    },
    Command {
        path: "alloc status",
        aliases: &["alloc-status"],
        usage: "[options] [allocation]",
        summary: "Shows an allocation with its tasks and their events",
        about: "The id may be shortened. Without one, lists the allocations.",
        reach: Reach::Namespace,
        flags: &[
            switch("short", "Only the tasks' last events."),
            switch("stats", "What its tasks use, in detail."),
            VERBOSE,
            JSON,
            TEMPLATE,
        ],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(alloc_status::run(cx))),
        ..PLAIN
    },
    Command {
        path: "alloc stop",
        aliases: &[],
        usage: "[options] <allocation>",
        summary: "Stops an allocation; another takes its place",
        about: "Exit code 2 says that the replacement could not be placed.",
        reach: Reach::Namespace,
        flags: &[DETACH, switch("no-shutdown-delay", "Ignore the group's and tasks' shutdown_delay."), VERBOSE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(alloc_stop::run(cx))),
        ..PLAIN
    },
    Command {
        path: "agent",
        aliases: &[],
        usage: "[options]",
        summary: "Runs a machine: the control plane's services, the node agent, or both",
        about: "What runs is said by configuration files (docs/configuration.md) and by flags, which go over them. \
            Services are processes of their own, started again when they end. SIGHUP reads the files again. With \
            -dev, the same as `steppe dev`.",
        reach: Reach::Nobody,
        flags: agent::flags::FLAGS,
        args: (0, 0),
        runner: Runner::Process(agent::agent),
        ..PLAIN
    },
    Command {
        path: "config validate",
        usage: "<path> [<path>...]",
        summary: "Says what is wrong with a machine's configuration",
        about: "Files are merged in order; of a directory, the *.hcl and *.json files by name.",
        reach: Reach::Nobody,
        args: (1, 64),
        runner: Runner::Client(|cx| Box::pin(async { Ok(agent::load::validate(cx)) })),
        ..PLAIN
    },
    Command {
        path: "deployment fail",
        usage: "[options] <deployment>",
        summary: "Fails a deployment",
        about: "Goes back to the newest stable version where a group has auto_revert. Exit code 2 says that not everything could be placed.",
        reach: Reach::Namespace,
        flags: &[DETACH, VERBOSE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(deployment_wish::fail(cx))),
        ..PLAIN
    },
    Command {
        path: "deployment list",
        usage: "[options]",
        summary: "Lists deployments",
        reach: Reach::Namespace,
        flags: &[VERBOSE, JSON, FILTER, TEMPLATE],
        runner: Runner::Client(|cx| Box::pin(deployment::list(cx))),
        ..PLAIN
    },
    Command {
        path: "deployment pause",
        usage: "[options] <deployment>",
        summary: "Pauses a deployment",
        about: "What runs goes on running; nothing more is replaced until it is resumed.",
        reach: Reach::Namespace,
        flags: &[VERBOSE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(deployment_wish::pause(cx))),
        ..PLAIN
    },
    Command {
        path: "deployment promote",
        usage: "[options] <deployment>",
        summary: "Promotes a deployment's canaries",
        about: "Of all groups unless -group names some; all of them must be healthy. Exit code 2 says that not everything could be placed.",
        reach: Reach::Namespace,
        flags: &[DETACH, VERBOSE, list("group", "NAME", "Only this group; may be given several times.")],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(deployment_wish::promote(cx))),
        ..PLAIN
    },
    Command {
        path: "deployment resume",
        usage: "[options] <deployment>",
        summary: "Resumes a paused deployment",
        about: "Exit code 2 says that not everything could be placed.",
        reach: Reach::Namespace,
        flags: &[DETACH, VERBOSE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(deployment_wish::resume(cx))),
        ..PLAIN
    },
    Command {
        path: "deployment status",
        usage: "[options] [deployment]",
        summary: "Shows a deployment",
        about: "The id may be shortened. Without one, lists the deployments.",
        reach: Reach::Namespace,
        flags: &[
            switch("monitor", "Watch it until it ends."),
            flag("wait", Kind::Duration, "2s", "TIME", "Accepted for compatibility: updates are shown as they happen."),
            VERBOSE,
            JSON,
            TEMPLATE,
        ],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(deployment::status(cx))),
        ..PLAIN
    },
    Command {
        path: "deployment unblock",
        usage: "[options] <deployment>",
        summary: "Lets a blocked deployment go on",
        about: "Exit code 2 says that not everything could be placed.",
        reach: Reach::Namespace,
        flags: &[DETACH, VERBOSE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(deployment_wish::unblock(cx))),
        ..PLAIN
    },
    Command {
        path: "dev",
        usage: "[options]",
        summary: "Runs a small cluster on this machine, until Ctrl-C",
        about: "One process of each service. Everything it keeps is thrown away at its end unless -data-dir is \
            given. Several may run side by side, each with its own -http-port.",
        reach: Reach::Nobody,
        flags: agent::flags::FLAGS,
        runner: Runner::Process(agent::dev),
        ..PLAIN
    },
    Command {
        path: "eval delete",
        usage: "[options] [evaluation]",
        summary: "Forgets evaluations, by id or by filter",
        about: "Only while the broker is paused (`operator scheduler set-config -pause-eval-broker=true`), and only \
            those from which nothing is still to follow.",
        flags: &[FILTER, switch("yes", "Do not ask.")],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(eval_delete::run(cx))),
        ..PLAIN
    },
    Command {
        path: "eval list",
        summary: "Lists evaluations",
        reach: Reach::Namespace,
        flags: &[
            text("job", "JOB", "Only of this job."),
            text("status", "STATUS", "Only with this status."),
            FILTER,
            PER_PAGE,
            PAGE_TOKEN,
            VERBOSE,
            JSON,
            TEMPLATE,
        ],
        runner: Runner::Client(|cx| Box::pin(eval::list(cx))),
        ..PLAIN
    },
    Command {
        path: "eval status",
        aliases: &["eval-status"],
        usage: "[options] <evaluation>",
        summary: "Shows an evaluation: what it was for and what became of it",
        about: "The id may be shortened.",
        reach: Reach::Namespace,
        flags: &[switch("monitor", "Watch it until it ends."), VERBOSE, JSON, TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(eval::status(cx))),
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
        about: "The input is a file, `-` for stdin; its bytes are the payload. Exit code 2 says that not everything could be placed.",
        reach: Reach::Namespace,
        flags: &[
            DETACH,
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
        flags: &[switch("short", "Without comments.")],
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
        about: "The path is a file in HCL, `-` for stdin. NOMAD_VAR_name=value in the environment sets a job variable; \
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
        about: "The path is a file in HCL, `-` for stdin. NOMAD_VAR_name=value in the environment sets a job variable; \
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
        about: "Exit codes: 0, it is valid; 1, it is not; 255, it cannot be read or understood.",
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
    Command {
        path: "local down",
        summary: "Stops the local cluster; what scripts/down calls",
        reach: Reach::Nobody,
        flags: local::DOWN_FLAGS,
        runner: Runner::Process(local::down),
        ..PLAIN
    },
    Command {
        path: "local status",
        summary: "Lists the local cluster's processes",
        reach: Reach::Nobody,
        flags: local::STATUS_FLAGS,
        runner: Runner::Process(local::status),
        ..PLAIN
    },
    Command {
        path: "local up",
        summary: "Starts the local cluster; what scripts/up calls",
        about: "Eleven processes: three state servers, a broker, two schedulers, an applier, a controller, a gateway \
            and two agents. What runs already is left alone; what has ended is started again.",
        reach: Reach::Nobody,
        flags: local::UP_FLAGS,
        runner: Runner::Process(local::up),
        ..PLAIN
    },
    Command {
        path: "namespace list",
        summary: "Lists namespaces",
        flags: &[JSON, TEMPLATE],
        runner: Runner::Client(|cx| Box::pin(operator::namespaces(cx))),
        ..PLAIN
    },
    Command {
        path: "namespace apply",
        usage: "[options] <input>",
        summary: "Makes or changes a namespace",
        about: "The input is a file in HCL, `-` for stdin, or the name of a namespace.",
        flags: &[
            list("description", "TEXT", "Description of the namespace."),
            list("quota", "NAME", "Quota of the namespace."),
            switch("json", "The file is JSON, as the API takes it."),
        ],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(namespace::apply(cx))),
        ..PLAIN
    },
    Command {
        path: "namespace delete",
        usage: "[options] <namespace>",
        summary: "Deletes a namespace in which nothing is left",
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(namespace::delete(cx))),
        ..PLAIN
    },
    Command {
        path: "namespace inspect",
        usage: "[options] <namespace>",
        summary: "Prints a namespace as JSON",
        flags: &[TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(namespace::inspect(cx))),
        ..PLAIN
    },
    Command {
        path: "namespace status",
        usage: "[options] <namespace>",
        summary: "Shows a namespace",
        flags: &[JSON, TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(namespace::status(cx))),
        ..PLAIN
    },
    Command {
        path: "node drain",
        aliases: &["node-drain"],
        usage: "[options] <node>",
        summary: "Moves a node's work elsewhere, or ends that",
        about: "The node is an id, which may be shortened, or a name; with -self, the one on this machine. Its groups \
            are moved as fast as their migrate blocks let them go; batch work is left to end; system jobs go last; at \
            the deadline whatever is left is stopped. The node stays ineligible.\n\nThe drain is watched until it \
            is over; Ctrl-C ends the watching only.",
        flags: &[
            switch("enable", "Begin to drain, or change how."),
            switch("disable", "End the drain."),
            text("deadline", "TIME", "How long work may take to leave; 1h unless given."),
            switch("force", "Stop everything at once."),
            switch("no-deadline", "Wait for as long as it takes."),
            switch("ignore-system", "System jobs stay."),
            switch("keep-ineligible", "With -disable: the node gets no new work."),
            switch("detach", "Return at once instead of watching."),
            switch("monitor", "Watch the drain that is under way."),
            switch("self", "The node on this machine."),
            text("m", "MESSAGE", "Message to remember with the drain."),
            list("meta", "KEY=VALUE", "More to remember with the drain."),
            switch("yes", "Do not ask."),
        ],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(node_drain::run(cx))),
        ..PLAIN
    },
    Command {
        path: "node eligibility",
        usage: "[options] <node>",
        summary: "Sets whether a node gets new work",
        about: "What runs on it stays. The node is an id, which may be shortened, or a name; with -self, the one on \
            this machine.",
        flags: &[
            switch("enable", "It gets new work."),
            switch("disable", "It gets none."),
            switch("self", "The node on this machine."),
        ],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(node_eligibility::run(cx))),
        ..PLAIN
    },
    Command {
        path: "node meta apply",
        usage: "[options] <key>=<value> [<key>=<value> …]",
        summary: "Changes what a node says of itself",
        about: "The node keeps it over restarts; jobs see it as ${meta.key}.",
        flags: &[NODE_ID, text("unset", "KEYS", "Keys to remove, with commas between them.")],
        args: (0, 512),
        runner: Runner::Client(|cx| Box::pin(node_meta::apply(cx))),
        ..PLAIN
    },
    Command {
        path: "node meta read",
        summary: "Shows what a node says of itself",
        about: "All of it, what was changed since, and what its configuration says.",
        flags: &[NODE_ID, JSON, TEMPLATE],
        runner: Runner::Client(|cx| Box::pin(node_meta::read(cx))),
        ..PLAIN
    },
    Command {
        path: "node pool apply",
        usage: "[options] <input>",
        summary: "Makes or changes a node pool",
        about: "The input is a file in HCL, or `-` for stdin.",
        flags: &[switch("json", "The file is JSON, as the API takes it.")],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(node_pool::apply(cx))),
        ..PLAIN
    },
    Command {
        path: "node pool delete",
        usage: "[options] <node-pool>",
        summary: "Deletes a node pool that nothing uses",
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(node_pool::delete(cx))),
        ..PLAIN
    },
    Command {
        path: "node pool info",
        usage: "[options] <node-pool>",
        summary: "Shows a node pool",
        flags: &[JSON, TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(node_pool::info(cx))),
        ..PLAIN
    },
    Command {
        path: "node pool init",
        usage: "[options] [filename]",
        summary: "Writes an example of a node pool's file",
        about: "A file that is there is not replaced.",
        reach: Reach::Nobody,
        flags: &[
            flag("out", Kind::Text, "hcl", "FORMAT", "Format of the file: hcl or json."),
            switch("quiet", "Say nothing."),
        ],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(node_pool::init(cx))),
        ..PLAIN
    },
    Command {
        path: "node pool jobs",
        usage: "[options] <node-pool>",
        summary: "Lists the jobs of a node pool",
        reach: Reach::Namespace,
        flags: &[FILTER, PER_PAGE, PAGE_TOKEN, JSON, TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(node_pool::jobs(cx))),
        ..PLAIN
    },
    Command {
        path: "node pool list",
        summary: "Lists node pools",
        flags: &[FILTER, PER_PAGE, PAGE_TOKEN, JSON, TEMPLATE],
        runner: Runner::Client(|cx| Box::pin(node_pool::list(cx))),
        ..PLAIN
    },
    Command {
        path: "node pool nodes",
        usage: "[options] <node-pool>",
        summary: "Lists the nodes of a node pool",
        flags: &[FILTER, PER_PAGE, PAGE_TOKEN, VERBOSE, JSON, TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(node_pool::nodes(cx))),
        ..PLAIN
    },
    Command {
        path: "node status",
        aliases: &["node-status"],
        usage: "[options] [node]",
        summary: "Shows a node with its resources and allocations",
        about: "The node is an id, which may be shortened, or a name. Without one, lists the nodes.",
        flags: &[
            switch("short", "Only the node itself and its allocations."),
            switch("allocs", "Count the running allocations, in the list."),
            switch("os", "Show the operating system, in the list."),
            switch("quiet", "Print ids only, in the list."),
            switch("self", "Show the node of the agent at -address."),
            switch("stats", "What its host uses, in detail."),
            FILTER,
            PER_PAGE,
            PAGE_TOKEN,
            VERBOSE,
            JSON,
            TEMPLATE,
        ],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(node_status::run(cx))),
        ..PLAIN
    },
    Command {
        path: "node intro create",
        summary: "Makes a token that lets a new node into the cluster",
        about: "The machine is given it by -client-intro-token. It may be used until it is over.",
        flags: &[
            flag("ttl", Kind::Duration, "", "TIME", "How long it may be used; 5m unless given, at most 30m."),
            text("node-name", "NAME", "Only for a node of this name."),
            text("node-pool", "POOL", "Only for a node of this pool."),
            JSON,
            TEMPLATE,
        ],
        runner: Runner::Client(|cx| Box::pin(node_intro::create(cx))),
        ..PLAIN
    },
    Command {
        path: "operator api",
        usage: "[options] <path>",
        summary: "Sends a request to the API and prints the answer",
        about: "With stdin that is not a terminal, the body is read from it and the method is POST.",
        reach: Reach::Namespace,
        flags: &[
            text("X", "METHOD", "Method."),
            list("H", "NAME: VALUE", "Header."),
            FILTER,
            switch("dryrun", "Print the equivalent curl command instead."),
            switch("verbose", "Print the answer's status and headers on stderr."),
        ],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(operator::api(cx))),
        ..PLAIN
    },
    Command {
        path: "operator autopilot get-config",
        summary: "Shows how the state servers look after themselves",
        flags: &[JSON, TEMPLATE],
        runner: Runner::Client(|cx| Box::pin(operator_care::autopilot_get(cx))),
        ..PLAIN
    },
    Command {
        path: "operator autopilot health",
        summary: "Shows which state servers are healthy",
        flags: &[JSON],
        runner: Runner::Client(|cx| Box::pin(operator_care::autopilot_health(cx))),
        ..PLAIN
    },
    Command {
        path: "operator autopilot set-config",
        summary: "Changes how the state servers look after themselves",
        about: "What is not named stays as it is.",
        flags: &[
            text("cleanup-dead-servers", "BOOL", "Take servers out that are dead, while a majority lives."),
            text("last-contact-threshold", "DURATION", "Who has not heard from the leader for longer is not healthy."),
            text("max-trailing-logs", "NUMBER", "Who lags by more entries of the log is not healthy."),
            text("min-quorum", "NUMBER", "Never leave fewer servers than this."),
            text(
                "server-stabilization-time",
                "DURATION",
                "Kept for compatibility: a server votes once it has caught up.",
            ),
            text("enable-redundancy-zones", "BOOL", "Kept for compatibility."),
            text("disable-upgrade-migration", "BOOL", "Kept for compatibility."),
            text("enable-custom-upgrades", "BOOL", "Kept for compatibility."),
        ],
        runner: Runner::Client(|cx| Box::pin(operator_care::autopilot_set(cx))),
        ..PLAIN
    },
    Command {
        path: "operator gossip keyring generate",
        usage: "",
        summary: "Makes a key for gossip: `server { encrypt = … }`",
        reach: Reach::Nobody,
        flags: &[],
        runner: Runner::Client(|cx| Box::pin(async { gossip_key(cx) })),
        ..PLAIN
    },
    Command {
        path: "operator metrics",
        summary: "Prints the cluster's metrics",
        flags: &[
            text("format", "FORMAT", "prometheus, or nothing for JSON."),
            switch("pretty", "Accepted for compatibility: JSON is always indented."),
            JSON,
            TEMPLATE,
        ],
        runner: Runner::Client(|cx| Box::pin(operator::metrics(cx))),
        ..PLAIN
    },
    Command {
        path: "operator raft list-peers",
        summary: "Lists the servers of the replicated log",
        flags: &[switch("stale", "Ask any server, not the leader.")],
        runner: Runner::Client(|cx| Box::pin(server::peers(cx))),
        ..PLAIN
    },
    Command {
        path: "operator raft remove-peer",
        summary: "Removes a server from the replicated log",
        about: "Dead servers leave by themselves (`operator autopilot get-config`). A server that lives stays out until \
            it is started again.",
        flags: &[text("peer-id", "ID", "Id of the server, as `operator raft list-peers` lists it.")],
        runner: Runner::Client(|cx| Box::pin(operator_care::remove_peer(cx))),
        ..PLAIN
    },
    Command {
        path: "operator raft transfer-leadership",
        summary: "Has another server lead",
        flags: &[
            text("peer-id", "ID", "Id of the server that is to lead."),
            text("peer-address", "ADDR", "Or its address, as `operator raft list-peers` lists it."),
        ],
        runner: Runner::Client(|cx| Box::pin(operator_care::transfer_leadership(cx))),
        ..PLAIN
    },
    Command {
        path: "operator root keyring list",
        summary: "Lists the keys that encrypt variables and sign identities",
        flags: &[VERBOSE],
        runner: Runner::Client(|cx| Box::pin(operator_care::keyring_list(cx))),
        ..PLAIN
    },
    Command {
        path: "operator snapshot inspect",
        usage: "[options] <file>",
        summary: "Checks a snapshot and shows what is in it",
        reach: Reach::Nobody,
        flags: &[JSON],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(operator_snapshot::inspect(cx))),
        ..PLAIN
    },
    Command {
        path: "operator snapshot restore",
        usage: "[options] <file>",
        summary: "Makes a snapshot the state of the cluster",
        about: "Whole or not at all. Everything that happened since the snapshot is forgotten; nodes and their tasks are \
            brought in line with it.",
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(operator_snapshot::restore(cx))),
        ..PLAIN
    },
    Command {
        path: "operator snapshot save",
        usage: "[options] [file]",
        summary: "Saves the state of the cluster to a file",
        about: "The file holds the cluster's keys: keep it as you keep secrets. It is named by the time unless a name is \
            given, and it is checked before it gets its name.",
        flags: &[switch("stale", "Take it from any server, without asking the leader.")],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(operator_snapshot::save(cx))),
        ..PLAIN
    },
    Command {
        path: "operator scheduler get-config",
        summary: "Shows how the cluster schedules",
        flags: &[JSON, TEMPLATE],
        runner: Runner::Client(|cx| Box::pin(scheduler::get_config(cx))),
        ..PLAIN
    },
    Command {
        path: "operator scheduler set-config",
        summary: "Changes how the cluster schedules",
        about: "What no flag names stays as it is. Values of switches are true or false.",
        flags: &[
            text("check-index", "INDEX", "Change it only if it was last modified at this index."),
            text("scheduler-algorithm", "NAME", "binpack or spread."),
            text("memory-oversubscription", "BOOL", "Whether memory_max counts."),
            text("reject-job-registration", "BOOL", "Whether jobs are refused."),
            text("pause-eval-broker", "BOOL", "Whether the broker hands out nothing."),
            text("preempt-batch-scheduler", "BOOL", "Whether batch jobs may displace others."),
            text("preempt-service-scheduler", "BOOL", "Whether service jobs may displace others."),
            text("preempt-sysbatch-scheduler", "BOOL", "Whether sysbatch jobs may displace others."),
            text("preempt-system-scheduler", "BOOL", "Whether system jobs may displace others."),
            text("node-limit-for-feasibility-checks", "NUMBER", "Accepted for compatibility: all nodes are looked at."),
        ],
        runner: Runner::Client(|cx| Box::pin(scheduler::set_config(cx))),
        ..PLAIN
    },
    Command {
        path: "serve",
        usage: "<service> [options]",
        summary: "Runs one service as this process",
        about: "Services: state, broker, scheduler, applier, controller, gateway, agent. \
            `steppe serve <service> -help` lists its options; each may be given as STEPPE_OPTION too.",
        reach: Reach::Nobody,
        args: (1, 64),
        runner: Runner::Process(serve::run),
        ..PLAIN
    },
    Command {
        path: "server members",
        aliases: &["server-members"],
        summary: "Lists the servers of the control plane",
        flags: &[switch("detailed", "Show every tag."), VERBOSE, JSON, TEMPLATE],
        runner: Runner::Client(|cx| Box::pin(server::members(cx))),
        ..PLAIN
    },
    Command {
        path: "status",
        usage: "[options] [identifier]",
        summary: "Shows whatever the identifier names",
        about: "A job, allocation, node, evaluation or deployment; ids may be shortened. Without one, lists the jobs.",
        reach: Reach::Namespace,
        flags: &[VERBOSE],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(status::run(cx))),
        ..PLAIN
    },
    Command {
        path: "supervise",
        usage: "<dir>",
        summary: "Holds the tasks of one allocation; started by agents",
        reach: Reach::Nobody,
        args: (1, 1),
        hidden: true,
        runner: Runner::Process(serve::supervise),
        ..PLAIN
    },
    Command {
        path: "system gc",
        summary: "Forgets all that is over: jobs, evaluations, allocations, deployments, nodes",
        runner: Runner::Client(|cx| Box::pin(system::gc(cx))),
        ..PLAIN
    },
    Command {
        path: "system reconcile summaries",
        summary: "Counts the summaries of all jobs anew",
        runner: Runner::Client(|cx| Box::pin(system::reconcile_summaries(cx))),
        ..PLAIN
    },
    Command {
        path: "version",
        usage: "",
        summary: "Prints the version",
        reach: Reach::Nobody,
        runner: Runner::Client(|cx| {
            Box::pin(async move {
                cx.ui.line(super::version());
                Ok(0)
            })
        }),
        ..PLAIN
    },
];

/// What the reference has and is to come; a group stands for all of its commands.
pub const NOT_BUILT: &[&str] = &[
    "acl",
    "agent-info",
    "alloc pause",
    "check",
    "client-config",
    "debug",
    "fmt",
    "job restart",
    "license",
    "login",
    "monitor",
    "node config",
    "node identity",
    "operator client-state",
    "operator debug",
    "operator gossip keyring install",
    "operator gossip keyring list",
    "operator gossip keyring remove",
    "operator gossip keyring use",
    "operator raft info",
    "operator raft logs",
    "operator raft migrate-backend",
    "operator raft state",
    "operator root keyring remove",
    "operator root keyring rotate",
    "operator snapshot redact",
    "operator snapshot state",
    "operator utilization",
    "plugin",
    "quota",
    "recommendation",
    "scaling",
    "sentinel",
    "server force-leave",
    "server join",
    "service",
    "setup",
    "start",
    "tls",
    "ui",
    "var",
    "volume",
];

fn gossip_key(cx: &mut super::Cx) -> Result<u8, super::Failure> {
    use base64::Engine as _;
    // A version 4 UUID is 122 random bits each; four of them are more than a key of 256 bits needs.
    let random: String = (0..4).map(|_| client::state::new_uuid()).collect();
    let key = kit::gossip::widened(random.as_bytes());
    cx.ui.line(base64::engine::general_purpose::STANDARD.encode(key));
    Ok(0)
}
