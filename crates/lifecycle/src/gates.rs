//! When each class of task may start.
//!
//! ```text
//!   prestart ──► main ──► poststart ──► wait ──► poststop
//!       └───────────┴─────────┴───────────┘ every task but the poststop ones dead
//! ```
//!
//! The stage is a function of the task states, so an agent that restarts in the middle of a stage finds it
//! again without having stored it.

use model::TaskStateKind;

use crate::spec::Class;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Prestart,
    Main,
    Poststart,
    Wait,
    Poststop,
}

/// One task, as far as the gates care.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub class: Class,
    pub state: TaskStateKind,
    pub failed: bool,
    /// It ran at least once, even if it waits for a restart now.
    pub has_run: bool,
}

/// The stage that `tasks` are in. `reached` keeps a stage that was entered: a main task
/// that restarts closes nothing again.
pub fn stage(tasks: &[View], reached: Stage) -> Stage {
    use TaskStateKind::{Dead, Running};
    let of = |class: Class| tasks.iter().filter(move |t| t.class == class);
    if tasks.iter().filter(|t| t.class != Class::Poststop).all(|t| t.state == Dead) {
        return Stage::Poststop;
    }
    let mut stage = match reached {
        // Only a restart of everything leads back, and that resets `reached`.
        Stage::Poststop => Stage::Wait,
        other => other,
    };
    if stage == Stage::Prestart {
        let ephemerals = of(Class::Prestart).all(|t| t.state == Dead && !t.failed);
        let sidecars = of(Class::PrestartSidecar).all(|t| t.state == Running);
        if ephemerals && sidecars {
            stage = Stage::Main;
        }
    }
    if stage == Stage::Main && of(Class::Main).all(|t| t.state != TaskStateKind::Pending || t.has_run) {
        stage = Stage::Poststart;
    }
    if stage == Stage::Poststart && of(Class::Poststart).all(|t| t.state == Dead) {
        stage = Stage::Wait;
    }
    stage
}

/// Whether a task of `class` may start in `stage`.
pub fn is_open(stage: Stage, class: Class) -> bool {
    match stage {
        Stage::Prestart => matches!(class, Class::Prestart | Class::PrestartSidecar),
        Stage::Main => matches!(class, Class::Main | Class::PrestartSidecar),
        Stage::Poststart => !matches!(class, Class::Prestart | Class::Poststop),
        Stage::Wait => matches!(class, Class::Main | Class::PrestartSidecar | Class::PoststartSidecar),
        Stage::Poststop => class == Class::Poststop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TaskStateKind::{Dead, Pending, Running};

    fn view(class: Class, state: TaskStateKind) -> View {
        View { class, state, failed: false, has_run: state != Pending }
    }

    #[test]
    fn main_waits_for_prestarts_to_succeed_and_sidecars_to_run_lifecycle_01_lifecycle_02_lifecycle_03_lifecycle_17() {
        let stage_with = |a, b, side| {
            let tasks = [
                view(Class::Prestart, a),
                view(Class::Prestart, b),
                view(Class::PrestartSidecar, side),
                view(Class::Main, Pending),
            ];
            stage(&tasks, Stage::Prestart)
        };
        assert_eq!(stage_with(Dead, Running, Running), Stage::Prestart);
        assert_eq!(stage_with(Dead, Dead, Pending), Stage::Prestart);
        assert_eq!(stage_with(Dead, Dead, Running), Stage::Main);
        assert!(!is_open(Stage::Prestart, Class::Main) && is_open(Stage::Main, Class::Main));
    }

    #[test]
    fn a_failed_prestart_never_opens_main_lifecycle_04() {
        let failed = View { failed: true, ..view(Class::Prestart, Dead) };
        assert_eq!(stage(&[failed, view(Class::Main, Pending)], Stage::Prestart), Stage::Prestart);
        assert_eq!(stage(&[failed, view(Class::Main, Dead)], Stage::Prestart), Stage::Poststop);
    }

    #[test]
    fn poststart_waits_for_every_main_task_lifecycle_05_lifecycle_18() {
        let tasks = [view(Class::Main, Running), view(Class::Main, Pending), view(Class::Poststart, Pending)];
        assert_eq!(stage(&tasks, Stage::Prestart), Stage::Main);
        let tasks = [view(Class::Main, Running), view(Class::Main, Running), view(Class::Poststart, Pending)];
        assert_eq!(stage(&tasks, Stage::Main), Stage::Poststart);
        assert!(is_open(Stage::Poststart, Class::Poststart) && !is_open(Stage::Main, Class::Poststart));
    }

    #[test]
    fn poststop_waits_for_all_others_lifecycle_07() {
        let tasks =
            |main| [view(Class::Main, main), view(Class::PrestartSidecar, Dead), view(Class::Poststop, Pending)];
        assert_eq!(stage(&tasks(Running), Stage::Wait), Stage::Wait);
        assert_eq!(stage(&tasks(Dead), Stage::Wait), Stage::Poststop);
    }

    #[test]
    fn an_agent_that_restarts_finds_the_stage_again_lifecycle_16() {
        let tasks = [view(Class::Prestart, Dead), view(Class::Main, Running), view(Class::Poststart, Pending)];
        assert_eq!(stage(&tasks, Stage::Prestart), Stage::Poststart);
    }
}
