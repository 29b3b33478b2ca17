//! Ready means ready; and what a service may not do is typed.

use super::world::{ms, settings, World, LATE};
use crate::engine::{Denied, Method, Notice, Settings};
use crate::error::ErrorKind;

#[test]
fn expose_completes_when_the_server_has_the_subscription() {
    let mut world = World::new();
    let service = world.add(settings("svc", "s"));
    world.connect(service);
    world.latency = ms(10);
    let start = world.now - world.base;
    let id = world.expose(service, &["m"]);
    world.run(ms(19));
    assert!(world.is_open(id));
    world.run(ms(5));
    assert_eq!(world.ok(id), None);
    assert_eq!(world.at(id), start + ms(20));
    world.assert_idle(service);
    // A caller without retries finds it.
    let caller = world.add(Settings { retries: 0, ..settings("", "c") });
    world.connect(caller);
    let call = world.request(caller, "svc.m", "1");
    world.run(ms(60));
    assert_eq!(world.ok(call).as_deref(), Some("1"));
}

#[test]
fn a_second_expose_adds_to_the_one_subscription() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    let id = world.expose(service, &["m", "n"]);
    world.run(ms(10));
    assert_eq!(world.ok(id), None);
    let call = world.request(caller, "svc.n", "1");
    world.request(caller, "svc.m", "1");
    world.run(ms(10));
    assert_eq!(world.ok(call).as_deref(), Some("1"));
    let methods: Vec<_> = world.nodes[service].calls.iter().map(|c| c.method.clone()).collect();
    assert_eq!(methods, [Method::Known(1), Method::Known(0)]);
}

#[test]
fn an_expose_under_way_completes_after_the_reconnection() {
    let mut world = World::new();
    let service = world.add(settings("svc", "s"));
    let before = world.expose(service, &["m"]);
    world.run(ms(50));
    assert!(world.is_open(before));
    world.latency = ms(10);
    world.connect(service);
    world.run(ms(5));
    world.disconnect(service);
    world.run(ms(100));
    assert!(world.is_open(before));
    world.connect(service);
    world.run(ms(30));
    assert_eq!(world.ok(before), None);
    let caller = world.caller();
    let call = world.request(caller, "svc.m", "1");
    world.run(ms(60));
    assert_eq!(world.ok(call).as_deref(), Some("1"));
    world.assert_idle(service);
}

#[test]
fn a_service_answers_again_after_a_reconnection() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    for _ in 0..3 {
        world.disconnect(service);
        world.run(ms(10));
        world.connect(service);
        let id = world.request(caller, "svc.m", "1");
        world.run(ms(60));
        assert_eq!(world.ok(id).as_deref(), Some("1"));
    }
    assert_eq!(world.nodes[service].calls.len(), 3);
}

#[test]
fn an_expose_without_a_connection_times_out_and_goes_on() {
    let mut world = World::new();
    let service = world.add(Settings { timeout: Some(ms(100)), ..settings("svc", "s") });
    let id = world.expose(service, &["m"]);
    world.run(ms(100) + LATE);
    world.err(id, ErrorKind::TimedOut);
    world.connect(service);
    let caller = world.caller();
    let call = world.request(caller, "svc.m", "1");
    world.run(ms(60));
    assert_eq!(world.ok(call).as_deref(), Some("1"));
}

#[test]
fn a_refused_service_subject_fails_each_expose_until_a_new_connection() {
    let mut world = World::new();
    let service = world.add(settings("svc", "s"));
    world.server.denied.push((service, Denied::Subscribe("svc.>".into())));
    world.connect(service);
    let first = world.expose(service, &["m"]);
    world.run(ms(10));
    let error = world.err(first, ErrorKind::PermissionDenied);
    assert!(error.message().contains("may not subscribe to svc.>"), "{error}");
    let second = world.expose(service, &["n"]);
    world.err(second, ErrorKind::PermissionDenied);
    let told = world.nodes[service].notices.iter().filter(|n| matches!(n, Notice::Failed(_)));
    assert_eq!(told.count(), 1);
    // Its own calls do not need the subscription.
    world.instance("other");
    let call = world.request(service, "other.m", "1");
    world.run(ms(10));
    assert_eq!(world.ok(call).as_deref(), Some("1"));
    world.server.denied.clear();
    world.disconnect(service);
    world.connect(service);
    let third = world.expose(service, &["o"]);
    world.run(ms(10));
    assert_eq!(world.ok(third), None);
}

#[test]
fn a_refused_inbox_fails_everything_that_needs_replies() {
    let mut world = World::new();
    let service = world.add(settings("svc", "s"));
    world.server.denied.push((service, Denied::Subscribe("_INBOX.s.*".into())));
    world.latency = ms(5);
    world.connect(service);
    let early = [
        world.request(service, "other.m", "1"),
        world.publish(service, "other.m", "1"),
        world.expose(service, &["m"]),
    ];
    world.run(ms(20));
    let late = [
        world.request(service, "other.m", "1"),
        world.publish(service, "other.m", "1"),
        world.expose(service, &["m"]),
    ];
    for id in early.into_iter().chain(late) {
        let error = world.err(id, ErrorKind::PermissionDenied);
        assert!(error.message().contains("inboxPrefix"), "{error}");
    }
    world.assert_idle(service);
    let start = world.now - world.base;
    let closed = world.close(service, None);
    world.run(ms(6_000));
    assert_eq!(world.ok(closed), None);
    assert!(world.at(closed) <= start + ms(100), "close waits for an echo that cannot come");
}

#[test]
fn an_unknown_method_of_an_open_ended_host_is_handed_out() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.add(settings("svc", "s")));
    world.connect(service);
    let done = world.new_id();
    world.nodes[service].engine.expose(world.now, &["m".into()], true, done);
    world.turn(service);
    world.run(ms(10));
    let id = world.request(caller, "svc.later", "1");
    world.run(ms(10));
    assert_eq!(world.ok(id).as_deref(), Some("1"));
    assert_eq!(world.nodes[service].calls[0].method, Method::Named("later".into()));
}
