//! Drain: stop new work, let handlers finish, see their replies off, disconnect.

use super::world::{ms, settings, Handlers, World};
use crate::engine::{Outcome, Settings};
use crate::error::ErrorKind;

#[test]
fn close_waits_for_handlers_and_their_replies() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let id = world.request(caller, "svc.m", "1");
    world.run(ms(10));
    let closed = world.close(service, None);
    world.run(ms(1_000));
    assert!(world.is_open(closed) && world.is_open(id));
    world.reply(service, 0, Outcome::Returned(Some("1".into())));
    world.run(ms(10));
    assert_eq!(world.ok(id).as_deref(), Some("1"));
    assert_eq!(world.ok(closed), None);
    assert!(world.at(id) <= world.at(closed), "the server has the reply before close completes");
    assert!(!world.nodes[service].alive);
    world.assert_idle(service);
}

#[test]
fn calls_that_were_on_their_way_are_answered() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.latency = ms(10);
    let id = world.request(caller, "svc.m", "1");
    world.run(ms(5));
    let closed = world.close(service, None);
    world.run(ms(200));
    assert_eq!(world.ok(id).as_deref(), Some("1"));
    assert_eq!(world.ok(closed), None);
}

#[test]
fn close_timeout_cuts_it_short() {
    let mut world = World::new();
    let service = world.add(Settings { close_timeout: ms(300), ..settings("svc", "s") });
    world.connect(service);
    world.expose(service, &["m"]);
    let caller = world.caller();
    world.nodes[service].handlers = Handlers::Hold;
    world.run(ms(10));
    let id = world.request_within(caller, "svc.m", "1", ms(1_000));
    world.run(ms(10));
    let start = world.now - world.base;
    let closed = world.close(service, None);
    world.run(ms(2_000));
    assert_eq!(world.ok(closed), None);
    let took = world.at(closed) - start;
    assert!(took >= ms(300) && took <= ms(350), "{took:?}");
    world.err(id, ErrorKind::TimedOut);
    world.assert_idle(service);
}

#[test]
fn close_from_a_handler_does_not_wait_for_that_handler() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let asks = world.request(caller, "svc.m", "1");
    let works = world.request(caller, "svc.m", "2");
    world.run(ms(10));
    let from = world.nodes[service].calls[0].id;
    let closed = world.close(service, Some(from));
    let again = world.close(service, Some(from));
    world.run(ms(100));
    assert!(world.is_open(closed), "the other handler is awaited");
    world.reply(service, 1, Outcome::Returned(Some("2".into())));
    world.run(ms(10));
    assert_eq!((world.ok(closed), world.ok(again)), (None, None));
    assert_eq!(world.ok(works).as_deref(), Some("2"));
    assert!(world.is_open(asks));
}

#[test]
fn a_handler_that_closes_and_then_replies_is_heard_while_others_work() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let asks = world.request(caller, "svc.m", "1");
    world.request(caller, "svc.m", "2");
    world.run(ms(10));
    let from = world.nodes[service].calls[0].id;
    let closed = world.close(service, Some(from));
    world.reply(service, 0, Outcome::Returned(Some("1".into())));
    world.run(ms(10));
    assert_eq!(world.ok(asks).as_deref(), Some("1"));
    assert!(world.is_open(closed));
    world.reply(service, 1, Outcome::Returned(None));
    world.run(ms(10));
    assert_eq!(world.ok(closed), None);
}

#[test]
fn closing_twice_is_closing_once() {
    let mut world = World::new();
    let service = world.instance("svc");
    let first = world.close(service, None);
    let second = world.close(service, None);
    world.run(ms(100));
    assert_eq!((world.ok(first), world.ok(second)), (None, None));
    // The driver ends with the engine; what is asked of the engine itself completes all the same.
    let third = world.new_id();
    let engine = &mut world.nodes[service].engine;
    engine.close(world.now, None, third);
    assert!(engine.out.settled.iter().any(|(id, result)| *id == third && result.is_ok()));
}

#[test]
fn after_close_everything_is_closed() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    world.request(caller, "svc.m", "1");
    world.run(ms(10));
    world.close(service, None);
    let after = [
        world.request(service, "svc.m", "1"),
        world.publish(service, "svc.m", "1"),
        world.expose(service, &["n"]),
    ];
    for id in after {
        let error = world.err(id, ErrorKind::Closed);
        assert_eq!(error.message(), "This Picom is closed: make a new one");
    }
    let connect = world.new_id();
    world.nodes[service].engine.connect(connect);
    world.turn(service);
    world.err(connect, ErrorKind::Closed);
}

#[test]
fn everything_that_is_pending_settles() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let pending = [
        world.request(caller, "svc.m", "1"),
        world.request(caller, "nobody.m", "1"),
        world.publish(caller, "svc.m", "1"),
    ];
    world.run(world.latency * 2);
    let closed = world.close(caller, None);
    let settled_before = world.settled.contains_key(&pending[2]);
    world.run(ms(100));
    assert_eq!(world.ok(closed), None);
    let error = world.err(pending[0], ErrorKind::Closed);
    assert_eq!(error.message(), "Request svc.m was under way when this Picom was closed");
    world.err(pending[1], ErrorKind::Closed);
    assert!(settled_before || world.settled.contains_key(&pending[2]));
    world.assert_idle(caller);
}

#[test]
fn an_instance_that_never_connected_closes_at_once() {
    let mut world = World::new();
    let service = world.add(settings("svc", "s"));
    let waiting = [world.request(service, "svc.m", "1"), world.expose(service, &["m"])];
    let closed = world.close(service, None);
    assert_eq!(world.ok(closed), None);
    for id in waiting {
        world.err(id, ErrorKind::Closed);
    }
    world.assert_idle(service);
}

#[test]
fn what_was_published_before_the_first_connection_leaves_before_closing() {
    let mut world = World::new();
    let caller = world.add(settings("", "c"));
    let published = world.publish(caller, "svc.m", "1");
    let closed = world.close(caller, None);
    world.run(ms(1_000));
    assert!(world.is_open(published) && world.is_open(closed));
    world.connect(caller);
    world.run(ms(20));
    assert_eq!(world.ok(published), None);
    assert_eq!(world.ok(closed), None);
    world.assert_idle(caller);
}

#[test]
fn what_was_published_waits_for_a_first_connection_until_close_timeout() {
    let mut world = World::new();
    let caller = world.add(settings("", "c"));
    let published = world.publish(caller, "svc.m", "1");
    let closed = world.close(caller, None);
    world.run(ms(5_050));
    world.err(published, ErrorKind::Closed);
    assert_eq!(world.ok(closed), None);
}

#[test]
fn a_connection_that_is_lost_while_closing_is_not_waited_for() {
    // In every stage of closing: leaving, before and after the barrier left; and flushing.
    for wait in [0, 1, 2, 3, 4, 5] {
        let mut world = World::new();
        let service = world.instance("svc");
        world.latency = ms(2);
        let closed = world.close(service, None);
        world.run(ms(wait));
        world.disconnect(service);
        world.run(ms(10));
        assert_eq!(world.ok(closed), None, "lost after {wait} ms");
        world.assert_idle(service);
    }
}

#[test]
fn a_barrier_that_has_not_left_is_not_waited_for_either() {
    let mut world = World::new();
    let service = world.instance("svc");
    let closed = world.new_id();
    // Close and the loss of the connection in one turn: nothing was handed over in between.
    let engine = &mut world.nodes[service].engine;
    engine.close(world.now, None, closed);
    world.disconnect(service);
    world.run(ms(100));
    assert_eq!(world.ok(closed), None);
}

#[test]
fn replies_of_a_closing_instance_wait_for_a_reconnection_within_close_timeout() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let id = world.request(caller, "svc.m", "1");
    world.run(ms(10));
    let closed = world.close(service, None);
    world.run(ms(10));
    world.disconnect(service);
    world.reply(service, 0, Outcome::Returned(Some("1".into())));
    world.run(ms(100));
    assert!(world.is_open(closed));
    world.connect(service);
    world.run(ms(20));
    assert_eq!(world.ok(id).as_deref(), Some("1"));
    assert_eq!(world.ok(closed), None);
}

#[test]
fn a_caller_closes_within_one_round_trip() {
    let mut world = World::new();
    let caller = world.caller();
    world.run(ms(10));
    let start = world.now - world.base;
    let closed = world.close(caller, None);
    world.run(ms(100));
    assert_eq!(world.at(closed), start + world.latency * 2);
}

/// A service whose handler has closed it: the closing has completed, and the handler is at work.
fn parting(world: &mut World) -> (usize, u32) {
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let asks = world.request(caller, "svc.m", "1");
    world.run(ms(10));
    let own = world.request(service, "svc.m", "2");
    world.run(ms(10));
    world.reply(service, 1, Outcome::Returned(None));
    world.run(ms(10));
    assert_eq!(world.ok(own), None);
    let from = world.nodes[service].calls[0].id;
    let closed = world.close(service, Some(from));
    world.run(ms(20));
    assert_eq!(world.ok(closed), None);
    (service, asks)
}

#[test]
fn a_handler_that_has_closed_its_instance_may_still_reply() {
    let mut world = World::new();
    let (service, asks) = parting(&mut world);
    let again = world.close(service, None);
    assert_eq!(world.ok(again), None);
    world.run(ms(500));
    assert!(world.is_open(asks) && world.nodes[service].alive);
    world.reply(service, 0, Outcome::Returned(Some("1".into())));
    world.run(ms(10));
    assert_eq!(world.ok(asks).as_deref(), Some("1"));
    assert!(!world.nodes[service].alive);
    world.assert_idle(service);
}

#[test]
fn a_handler_that_has_closed_its_instance_has_until_close_timeout() {
    let mut world = World::new();
    let (service, asks) = parting(&mut world);
    world.run(ms(4_900));
    assert!(world.nodes[service].alive);
    world.run(ms(150));
    assert!(!world.nodes[service].alive && world.is_open(asks));
    world.assert_idle(service);
}

#[test]
fn a_connection_lost_after_closing_ends_the_instance() {
    let mut world = World::new();
    let (service, _) = parting(&mut world);
    world.disconnect(service);
    assert!(!world.nodes[service].alive);
    world.assert_idle(service);
}

#[test]
fn what_is_under_way_when_closing_completes_settles_before_the_last_handler() {
    let mut world = World::new();
    let (other, service) = (world.instance("other"), world.instance("svc"));
    for node in [other, service] {
        world.nodes[node].handlers = Handlers::Hold;
    }
    let caller = world.caller();
    world.request(caller, "svc.m", "1");
    let own = world.request(service, "other.m", "1");
    world.run(ms(10));
    let from = world.nodes[service].calls[0].id;
    let closed = world.close(service, Some(from));
    world.run(ms(20));
    assert_eq!(world.ok(closed), None);
    world.err(own, ErrorKind::Closed);
    assert!(world.nodes[service].alive);
}
