//! Nothing is handed over without a connection, and what was is not kept waiting.

use super::world::{ms, settings, Handlers, World, LATE};
use crate::engine::{Notice, Outcome};
use crate::error::{Error, ErrorKind};
use crate::wire::message::Headers;

#[test]
fn a_request_waits_for_the_connection_and_its_mark_tells_what_is_left_then() {
    let mut world = World::new();
    world.instance("svc");
    let caller = world.add(settings("", "c"));
    let id = world.request_within(caller, "svc.m", "1", ms(1_000));
    world.run(ms(600));
    assert!(world.is_open(id) && world.nodes[caller].sent.is_empty());
    world.connect(caller);
    world.run(ms(10));
    assert_eq!(world.ok(id).as_deref(), Some("1"));
    let Headers::Call(mark) = &world.nodes[caller].sent[0].1.headers else { panic!("no mark") };
    assert_eq!(mark.left, Some(ms(400)));
}

#[test]
fn a_request_that_never_got_a_connection_says_why() {
    let mut world = World::new();
    let caller = world.add(settings("", "c"));
    let first = world.request_within(caller, "svc.m", "1", ms(100));
    world.run(ms(100) + LATE);
    let error = world.err(first, ErrorKind::TimedOut);
    assert_eq!(error.message(), "Request svc.m timed out: not connected to sim:1");
    let trouble = Error::new(ErrorKind::ConnectFailed, "nobody listens there");
    world.nodes[caller].engine.connect_failed(trouble);
    let second = world.request_within(caller, "svc.m", "1", ms(100));
    world.run(ms(100) + LATE);
    let error = world.err(second, ErrorKind::TimedOut);
    assert!(error.message().ends_with("not connected to sim:1 (nobody listens there)"), "{error}");
    world.assert_idle(caller);
    world.connect(caller);
    world.run(ms(100));
    assert_eq!(world.nodes[caller].sent.len(), 0);
}

#[test]
fn what_was_handed_over_fails_at_once_and_what_was_queued_survives() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let request = world.request(caller, "svc.m", "1");
    world.run(ms(10));
    let publish = world.publish(caller, "svc.m", "2");
    let lost = world.now - world.base;
    world.disconnect(caller);
    for id in [request, publish] {
        let error = world.err(id, ErrorKind::Disconnected);
        assert!(error.message().contains("svc.m was under way"), "{error}");
        assert_eq!(world.at(id), lost);
    }
    world.assert_idle(caller);
    let later = world.request(caller, "svc.m", "3");
    let published = world.publish(caller, "svc.m", "4");
    world.run(ms(200));
    assert!(world.is_open(later) && world.is_open(published));
    world.nodes[service].handlers = Handlers::Echo(ms(0));
    world.connect(caller);
    world.run(ms(10));
    assert_eq!(world.ok(later).as_deref(), Some("3"));
    assert_eq!(world.ok(published), None);
}

#[test]
fn a_reply_that_came_before_the_connection_was_lost_counts() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let id = world.request(caller, "svc.m", "1");
    world.run(ms(10));
    world.reply(service, 0, Outcome::Returned(None));
    world.run(ms(2));
    world.disconnect(caller);
    assert_eq!(world.ok(id), None);
}

#[test]
fn an_echo_of_the_last_connection_proves_nothing_for_this_one() {
    let mut world = World::new();
    let caller = world.caller();
    let first = world.publish(caller, "svc.m", "1");
    let barrier = world.nodes[caller].sent.last().unwrap().1.subject.clone();
    world.disconnect(caller);
    world.err(first, ErrorKind::Disconnected);
    world.connect(caller);
    let second = world.publish(caller, "svc.m", "2");
    let other = world.caller();
    world.raw(other, &barrier, None, b"");
    world.run(world.latency);
    world.latency = ms(50);
    assert!(world.is_open(second));
    world.run(ms(200));
    assert_eq!(world.ok(second), None);
}

#[test]
fn an_echo_counts_although_the_connection_is_lost_behind_it() {
    let mut world = World::new();
    let caller = world.caller();
    let id = world.publish(caller, "svc.m", "1");
    let barrier = world.nodes[caller].sent.last().unwrap().1.subject.clone();
    // The echo and the loss of the connection come in one turn.
    let engine = &mut world.nodes[caller].engine;
    let mut echo = super::server::no_responder(barrier);
    echo.status = None;
    engine.receive(world.now, echo);
    engine.disconnected();
    world.turn(caller);
    assert_eq!(world.ok(id), None);
    world.assert_idle(caller);
}

#[test]
fn connections_are_told_once_each() {
    let mut world = World::new();
    let caller = world.add(settings("", "c"));
    for _ in 0..3 {
        let trouble = Error::new(ErrorKind::ConnectFailed, "x");
        world.nodes[caller].engine.connect_failed(trouble);
    }
    world.connect(caller);
    world.disconnect(caller);
    world.nodes[caller].engine.disconnected();
    world.connect(caller);
    let told: Vec<&Notice> = world.nodes[caller].notices.iter().collect();
    assert!(
        matches!(
            told[..],
            [Notice::Failed(_), Notice::Connected, Notice::Disconnected, Notice::Reconnected]
        ),
        "{told:?}"
    );
}

#[test]
fn connect_completes_with_the_connection_or_after_its_tries() {
    let mut world = World::new();
    let caller = world.add(settings("", "c"));
    let (id, more) = (world.new_id(), world.new_id());
    world.nodes[caller].engine.connect(id);
    let trouble = Error::new(ErrorKind::ConnectFailed, "nobody listens there");
    for tries in 0..4 {
        world.turn(caller);
        assert!(world.is_open(id), "after {tries} tries");
        world.nodes[caller].engine.connect_failed(trouble.clone());
    }
    world.turn(caller);
    world.err(id, ErrorKind::ConnectFailed);
    world.nodes[caller].engine.connect(more);
    world.connect(caller);
    assert_eq!(world.ok(more), None);
    let now = world.new_id();
    world.nodes[caller].engine.connect(now);
    world.turn(caller);
    assert_eq!(world.ok(now), None);
    world.assert_idle(caller);
}

#[test]
fn replies_wait_for_the_connection_too() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let id = world.request(caller, "svc.m", "1");
    world.run(ms(10));
    world.disconnect(service);
    let before = world.nodes[service].sent.len();
    world.reply(service, 0, Outcome::Returned(Some("5".into())));
    world.run(ms(100));
    assert_eq!(world.nodes[service].sent.len(), before);
    world.connect(service);
    world.run(ms(10));
    assert_eq!(world.ok(id).as_deref(), Some("5"));
}
