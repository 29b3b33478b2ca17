//! A publish completes when the server has taken the message, and fails when it has not.

use super::server::no_responder;
use super::world::{ms, settings, World};
use crate::engine::{Denied, Notice, Settings};
use crate::error::ErrorKind;

#[test]
fn a_publish_completes_after_the_echo_of_its_barrier() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.latency = ms(10);
    let start = world.now - world.base;
    let id = world.publish(caller, "svc.m", "1");
    world.run(ms(19));
    assert!(world.is_open(id));
    world.run(ms(20));
    assert_eq!(world.ok(id), None);
    assert_eq!(world.at(id), start + ms(20));
    let call = &world.nodes[service].calls[0];
    assert!(call.mark.is_none() && call.body == "1");
    world.assert_idle(caller);
    world.assert_idle(service);
}

#[test]
fn it_needs_no_responder() {
    let mut world = World::new();
    let caller = world.caller();
    let id = world.publish(caller, "nobody.m", "1");
    world.run(ms(10));
    assert_eq!(world.ok(id), None);
}

#[test]
fn publishes_of_one_turn_share_a_barrier() {
    let mut world = World::new();
    let caller = world.add(settings("", "c"));
    let ids: Vec<u32> = (0..100).map(|_| world.publish(caller, "svc.m", "1")).collect();
    world.connect(caller);
    world.run(ms(10));
    assert!(ids.iter().all(|id| world.ok(*id).is_none()));
    assert_eq!(world.nodes[caller].sent.len(), 101);
}

#[test]
fn a_refusal_that_comes_with_the_echo_counts() {
    // A transport's events are taken behind its messages.
    let mut world = World::new();
    let caller = world.caller();
    let id = world.publish(caller, "svc.m", "1");
    let other = world.publish(caller, "other.m", "1");
    let barriers: Vec<_> =
        world.nodes[caller].sent.iter().map(|(_, m)| m.subject.clone()).collect();
    let engine = &mut world.nodes[caller].engine;
    for barrier in barriers.into_iter().filter(|subject| subject.starts_with("_INBOX")) {
        let mut echo = no_responder(barrier);
        echo.status = None;
        engine.receive(world.now, echo);
    }
    engine.denied(&Denied::Publish("svc.m".into()));
    world.turn(caller);
    world.run(ms(1));
    let error = world.err(id, ErrorKind::PermissionDenied);
    assert!(error.message().contains("may not publish to svc.m"), "{error}");
    assert_eq!(world.ok(other), None);
    world.assert_idle(caller);
}

#[test]
fn a_publish_that_the_server_refuses_fails() {
    let mut world = World::new();
    let caller = world.caller();
    world.server.denied.push((caller, Denied::Publish("svc.>".into())));
    let refused = world.publish(caller, "svc.m", "1");
    let taken = world.publish(caller, "other.m", "1");
    world.run(ms(10));
    world.err(refused, ErrorKind::PermissionDenied);
    assert_eq!(world.ok(taken), None);
    assert!(!world.nodes[caller].notices.iter().any(|n| matches!(n, Notice::Failed(_))));
}

#[test]
fn a_refusal_fails_every_call_on_its_subject_and_no_other() {
    let mut world = World::new();
    let (caller, _) = (world.caller(), world.instance("svc"));
    world.server.denied.push((caller, Denied::Publish("svc.secret".into())));
    let refused = [
        world.request(caller, "svc.secret", "1"),
        world.request(caller, "svc.secret", "2"),
        world.publish(caller, "svc.secret", "3"),
    ];
    let allowed = world.request(caller, "svc.m", "4");
    world.run(ms(10));
    for id in refused {
        world.err(id, ErrorKind::PermissionDenied);
    }
    assert_eq!(world.ok(allowed).as_deref(), Some("4"));
    world.assert_idle(caller);
}

#[test]
fn a_refusal_of_the_barrier_itself_is_proof() {
    let mut world = World::new();
    let caller = world.caller();
    world.server.denied.push((caller, Denied::Publish("_INBOX.>".into())));
    let id = world.publish(caller, "svc.m", "1");
    world.run(ms(10));
    assert_eq!(world.ok(id), None);
    world.server.denied.push((caller, Denied::Publish("svc.>".into())));
    let refused = world.publish(caller, "svc.m", "1");
    world.run(ms(10));
    world.err(refused, ErrorKind::PermissionDenied);
    world.assert_idle(caller);
}

#[test]
fn a_publish_times_out_where_no_echo_comes() {
    let mut world = World::new();
    let caller = world.add(Settings { timeout: Some(ms(200)), ..settings("", "c") });
    let id = world.publish(caller, "svc.m", "1");
    world.run(ms(260));
    let error = world.err(id, ErrorKind::TimedOut);
    assert!(error.message().starts_with("Publish svc.m timed out: not connected"), "{error}");
    world.connect(caller);
    world.run(ms(10));
    assert_eq!(world.nodes[caller].sent.len(), 0);
    world.assert_idle(caller);
}

#[test]
fn a_refused_reply_is_told_once() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.server.denied.push((service, Denied::Publish("_INBOX.c0.>".into())));
    for _ in 0..3 {
        world.request_within(caller, "svc.m", "1", ms(100));
    }
    world.run(ms(300));
    let told = world.nodes[service].notices.iter().filter(|n| matches!(n, Notice::Failed(_)));
    assert_eq!(told.count(), 1);
}

#[test]
fn the_echo_for_a_publish_that_timed_out_leaves_the_next_user_of_its_slot_alone() {
    let mut world = World::new();
    let caller = world.add(Settings { timeout: Some(ms(50)), ..settings("", "c") });
    world.connect(caller);
    let service = world.instance("svc");
    world.nodes[service].handlers = super::world::Handlers::Hold;
    world.latency = ms(40);
    let publish = world.publish(caller, "svc.m", "1");
    world.run(ms(60));
    world.err(publish, ErrorKind::TimedOut);
    let request = world.request(caller, "svc.m", "1");
    let deadline = world.now - world.base + ms(50);
    world.run(ms(200));
    world.err(request, ErrorKind::TimedOut);
    assert!(world.at(request) <= deadline + super::world::LATE);
}
