//! Fast failure and safe retries.

use super::world::{ms, settings, Handlers, World};
use crate::engine::Settings;
use crate::error::ErrorKind;

/// All tries begin within 150 ms of the first refusal; the wheel and two ways are on top.
const TRIES: u64 = 150 + 8;

#[test]
fn no_responder_is_a_typed_error_soon() {
    for retries in [0, 1, 3, 10, 100] {
        let mut world = World::new();
        let caller = world.add(Settings { retries, ..settings("", "c") });
        world.connect(caller);
        let start = world.now - world.base;
        let id = world.request(caller, "nobody.m", "1");
        world.run(ms(300));
        let error = world.err(id, ErrorKind::NoResponder);
        assert!(error.message().contains("\"nobody\""), "{error}");
        assert!(world.at(id) <= start + ms(TRIES), "{retries}: {:?}", world.at(id) - start);
        let sent = world.sent_to(caller, "nobody.m");
        assert!(sent <= retries as usize + 1, "{sent} tries");
        if retries <= 3 {
            assert_eq!(sent, retries as usize + 1);
        }
        world.assert_idle(caller);
    }
}

#[test]
fn without_retries_it_takes_one_round_trip() {
    let mut world = World::new();
    let caller = world.add(Settings { retries: 0, ..settings("", "c") });
    world.connect(caller);
    let start = world.now - world.base;
    let id = world.request(caller, "nobody.m", "1");
    world.run(ms(300));
    world.err(id, ErrorKind::NoResponder);
    assert_eq!(world.at(id), start + world.latency * 2);
}

#[test]
fn tries_have_jitter() {
    let mut world = World::new();
    let callers: Vec<usize> = (0..8).map(|_| world.caller()).collect();
    world.run(ms(5));
    for caller in &callers {
        world.request(*caller, "nobody.m", "1");
    }
    world.run(ms(300));
    let last = |caller: &usize| world.nodes[*caller].sent.last().unwrap().0;
    let distinct: std::collections::BTreeSet<_> = callers.iter().map(last).collect();
    assert!(distinct.len() > 1, "all callers come back at the same time");
}

#[test]
fn a_responder_that_appears_during_the_tries_gets_the_call_once() {
    let mut world = World::new();
    let caller = world.caller();
    let service = world.add(settings("svc", "s"));
    world.connect(service);
    let id = world.request(caller, "svc.m", "7");
    world.run(ms(4));
    assert!(world.is_open(id) && world.sent_to(caller, "svc.m") == 1);
    world.expose(service, &["m"]);
    world.run(ms(100));
    assert_eq!(world.ok(id).as_deref(), Some("7"));
    assert_eq!(world.nodes[service].calls.len(), 1);
    // A call that is tried again keeps its id.
    assert_eq!(world.nodes[service].calls[0].mark.as_deref(), Some("c0.0"));
}

#[test]
fn tries_never_pass_the_deadline() {
    for timeout in 3..60 {
        let mut world = World::new();
        let caller = world.add(Settings { retries: 100, ..settings("", "c") });
        world.connect(caller);
        let deadline = world.now + ms(timeout);
        let id = world.request_within(caller, "nobody.m", "1", ms(timeout));
        world.run(ms(500));
        let settled = &world.settled[&id];
        assert!(settled.at <= deadline + super::world::LATE);
        let kind = settled.result.as_ref().unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::NoResponder | ErrorKind::TimedOut));
        assert!(kind == ErrorKind::NoResponder || settled.at >= deadline);
        assert!(world.nodes[caller].sent.iter().all(|(at, _)| *at < deadline));
        world.assert_idle(caller);
    }
}

#[test]
fn the_time_left_is_recalculated_for_each_try() {
    let mut world = World::new();
    let caller = world.caller();
    let service = world.add(settings("svc", "s"));
    world.connect(service);
    let deadline = world.now + ms(1_000);
    world.request_within(caller, "svc.m", "7", ms(1_000));
    world.run(ms(4));
    world.expose(service, &["m"]);
    world.run(ms(100));
    let call = &world.nodes[service].calls[0];
    // Rounded up to a millisecond, and counted from reading it.
    let most = deadline + world.latency * 2 + ms(1);
    assert!(call.expires.unwrap() <= most);
}

#[test]
fn a_request_that_waits_for_its_next_try_survives_a_lost_connection() {
    let mut world = World::new();
    let caller = world.caller();
    let id = world.request(caller, "svc.m", "7");
    world.run(ms(3));
    assert_eq!(world.sent_to(caller, "svc.m"), 1);
    world.disconnect(caller);
    world.run(ms(500));
    assert!(world.is_open(id), "it certainly did not run");
    world.instance("svc");
    world.connect(caller);
    world.run(ms(10));
    assert_eq!(world.ok(id).as_deref(), Some("7"));
}

#[test]
fn a_try_that_was_taken_is_not_repeated() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let id = world.request_within(caller, "svc.m", "1", ms(400));
    world.run(ms(10));
    world.lose(service);
    world.run(ms(450));
    world.err(id, ErrorKind::TimedOut);
    assert_eq!(world.sent_to(caller, "svc.m"), 1);
}

#[test]
fn a_closing_instance_hands_the_call_to_another() {
    let mut world = World::new();
    let (caller, one, two) = (world.caller(), world.instance("svc"), world.instance("svc"));
    let mut ids = Vec::new();
    for turn in 0..60 {
        if turn == 20 {
            world.close(one, None);
        }
        ids.push(world.request(caller, "svc.m", "1"));
        world.run(ms(1));
    }
    world.run(ms(500));
    for id in ids {
        assert_eq!(world.ok(id).as_deref(), Some("1"));
    }
    assert!(!world.nodes[one].alive && world.nodes[two].alive);
    assert!(world.nodes[one].calls.len() >= 10);
}
