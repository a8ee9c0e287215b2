//! The life of a job, from registration to purge, in one piece.

use model::{ClientStatus, NodeStatus};

use crate::world::{self, World, job};

#[test]
fn a_job_lives_from_register_to_purge_and_every_follower_sees_the_same() {
    let mut world = World::new();
    world.node("n1");
    world.register(job("web"));
    assert_eq!(world.status("web"), "pending");
    world.place("web", "n1", &["a1", "a2"]);
    assert_eq!(world.status("web"), "running");
    world.tell("a1", ClientStatus::Running);
    world.tell("a2", ClientStatus::Running);
    assert_eq!(world.summary("web"), [0, 0, 2, 0, 0, 0, 0]);
    world.node_status("n1", NodeStatus::Down);
    world.stop("web", "a1", Some(ClientStatus::Lost));
    assert_eq!(world.summary("web"), [0, 0, 1, 0, 0, 1, 0]);
    world.deregister("web", false);
    world.stop("web", "a2", None);
    world.tell("a2", ClientStatus::Complete);
    for eval in world.state.open_evals().map(|eval| eval.id.to_string()).collect::<Vec<_>>() {
        world.finish_eval(&eval);
    }
    assert_eq!(world.status("web"), "dead");
    world.deregister("web", true);
    assert!(world.state.job(&world::ns(), &"web".into()).is_none());
    world.assert_followed();
}
