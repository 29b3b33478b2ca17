//! Settlement: exactly once, in time, and gone afterwards.

use std::time::Duration;

use super::world::{ms, settings, Handlers, World, LATE};
use crate::engine::Outcome;
use crate::error::ErrorKind;
use crate::options::MAX_IN_FLIGHT;
use crate::wire::message::{Headers, Inbound, Route};

#[test]
fn a_request_gets_its_reply() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    let id = world.request(caller, "svc.m", "{\"a\":1}");
    let nothing = world.request(caller, "svc.m", "");
    world.run(ms(20));
    assert_eq!(world.ok(id).as_deref(), Some("{\"a\":1}"));
    assert_eq!(world.ok(nothing), None);
    assert_eq!(world.nodes[service].calls.len(), 2);
    world.assert_idle(caller);
    world.assert_idle(service);
}

#[test]
fn the_mark_tells_the_id_and_the_time_left() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    let started = world.now;
    world.request_within(caller, "svc.m", "1", ms(500));
    world.run(ms(20));
    let call = &world.nodes[service].calls[0];
    assert_eq!(call.mark.as_deref(), Some("c0.0"));
    assert_eq!(call.expires, Some(started + world.latency * 2 + ms(500)));
}

#[test]
fn a_request_settles_at_its_deadline_and_not_before() {
    for timeout in [1, 2, 3, 4, 5, 49, 50, 777, 5_000, 30_000, 400_000] {
        let mut world = World::new();
        let (caller, service) = (world.caller(), world.instance("svc"));
        world.nodes[service].handlers = Handlers::Hold;
        let deadline = world.now - world.base + ms(timeout);
        let id = world.request_within(caller, "svc.m", "1", ms(timeout));
        world.run(ms(timeout) + LATE);
        let error = world.err(id, ErrorKind::TimedOut);
        assert_eq!(error.message(), "Request svc.m timed out");
        assert!(world.at(id) >= deadline, "{timeout}: early");
        assert!(world.at(id) <= deadline + LATE, "{timeout}: late");
        world.assert_idle(caller);
    }
}

#[test]
fn many_deadlines_at_once_are_all_kept() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let start = world.now - world.base;
    let ids: Vec<(u32, u64)> = (1..2_000)
        .map(|n| {
            (world.request_within(caller, "svc.m", "1", ms(n * 7 % 6_000 + 1)), n * 7 % 6_000 + 1)
        })
        .collect();
    world.run(ms(7_000));
    for (id, timeout) in ids {
        world.err(id, ErrorKind::TimedOut);
        let late = world.at(id).checked_sub(start + ms(timeout)).expect("not early");
        assert!(late <= LATE);
    }
    world.assert_idle(caller);
}

#[test]
fn a_timeout_of_zero_is_the_services_default() {
    let mut world = World::new();
    let caller = world.add(crate::engine::Settings { timeout: Some(ms(70)), ..settings("", "c") });
    world.connect(caller);
    let service = world.instance("svc");
    world.nodes[service].handlers = Handlers::Hold;
    let start = world.now - world.base;
    let id = world.request_within(caller, "svc.m", "1", Duration::ZERO);
    world.run(ms(69));
    assert!(world.is_open(id));
    world.run(LATE);
    world.err(id, ErrorKind::TimedOut);
    assert!(world.at(id) >= start + ms(70));
}

#[test]
fn a_service_timeout_of_zero_is_no_deadline() {
    let mut world = World::new();
    let caller = world.add(crate::engine::Settings { timeout: None, ..settings("", "c") });
    world.connect(caller);
    let service = world.instance("svc");
    world.nodes[service].handlers = Handlers::Hold;
    let replied = world.request(caller, "svc.m", "1");
    let cancelled = world.request(caller, "svc.m", "2");
    let disconnected = world.request(caller, "svc.m", "3");
    let limited = world.request_within(caller, "svc.m", "4", ms(10));
    world.run(Duration::from_secs(40 * 24 * 3600));
    world.err(limited, ErrorKind::TimedOut);
    assert!(world.is_open(replied) && world.is_open(cancelled) && world.is_open(disconnected));
    assert_eq!(world.nodes[service].calls[0].expires, None);
    world.reply(service, 0, Outcome::Returned(None));
    world.cancel(caller, cancelled);
    world.run(ms(10));
    assert_eq!(world.ok(replied), None);
    world.err(cancelled, ErrorKind::Cancelled);
    world.disconnect(caller);
    world.err(disconnected, ErrorKind::Disconnected);
    world.assert_idle(caller);
}

#[test]
fn a_timeout_beyond_all_clocks_is_no_deadline() {
    let mut world = World::new();
    let (caller, _) = (world.caller(), world.instance("svc"));
    let id = world.request_within(caller, "svc.m", "1", Duration::MAX);
    world.run(ms(20));
    assert_eq!(world.ok(id).as_deref(), Some("1"));
}

#[test]
fn a_late_reply_finds_nothing_although_its_slot_is_in_use_again() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let first = world.request_within(caller, "svc.m", "1", ms(20));
    world.run(ms(100));
    world.err(first, ErrorKind::TimedOut);
    let second = world.request(caller, "svc.m", "2");
    world.run(ms(10));
    world.reply(service, 0, Outcome::Returned(Some("\"late\"".into())));
    world.run(ms(10));
    assert!(world.is_open(second));
    world.reply(service, 1, Outcome::Returned(Some("\"right\"".into())));
    world.run(ms(10));
    assert_eq!(world.ok(second).as_deref(), Some("\"right\""));
}

#[test]
fn a_second_reply_finds_nothing() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let first = world.request(caller, "svc.m", "1");
    world.run(ms(10));
    let reply = world.nodes[caller].sent[0].1.reply.clone().unwrap();
    for body in ["{\"payload\":1}", "{\"payload\":2}"] {
        world.raw(service, &reply, None, body.as_bytes());
    }
    world.run(ms(10));
    assert_eq!(world.ok(first).as_deref(), Some("1"));
    let second = world.request(caller, "svc.m", "2");
    world.raw(service, &reply, None, b"{\"payload\":3}");
    world.run(ms(10));
    assert!(world.is_open(second));
    // The handler's own reply, after all of that: a call ends once, on both sides.
    world.reply(service, 0, Outcome::Returned(None));
    world.reply(service, 0, Outcome::Returned(None));
    world.run(ms(10));
    assert!(world.is_open(second));
}

#[test]
fn strange_messages_to_the_inbox_find_nothing() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let id = world.request(caller, "svc.m", "1");
    for subject in
        ["_INBOX.c0.x", "_INBOX.c0.", "_INBOX.c0.ffffffffffffffffffff", "", "_INBOX.c0.7"]
    {
        world.inject(
            caller,
            Inbound {
                route: Route::Inbox,
                subject: subject.into(),
                reply: None,
                call: None,
                status: Some(503),
                payload: "\u{0}".into(),
            },
        );
    }
    assert!(world.is_open(id));
}

#[test]
fn cancelling_frees_the_slot_at_once() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let id = world.request(caller, "svc.m", "1");
    world.run(ms(10));
    world.cancel(caller, id);
    world.err(id, ErrorKind::Cancelled);
    world.assert_idle(caller);
    world.cancel(caller, id);
    world.cancel(caller, 999);
    world.reply(service, 0, Outcome::Returned(None));
    world.run(ms(100));
    world.assert_idle(caller);
}

#[test]
fn a_request_that_was_cancelled_before_it_left_does_not_leave() {
    let mut world = World::new();
    let caller = world.add(settings("", "c"));
    let id = world.request(caller, "svc.m", "1");
    world.cancel(caller, id);
    world.err(id, ErrorKind::Cancelled);
    world.connect(caller);
    world.run(ms(10));
    assert_eq!(world.nodes[caller].sent.len(), 0);
    world.assert_idle(caller);
}

#[test]
fn what_was_given_up_while_disconnected_takes_no_memory() {
    let mut world = World::new();
    let caller = world.add(settings("", "c"));
    let kept = world.request(caller, "svc.m", "0");
    for _ in 0..10_000 {
        let id = world.request(caller, "svc.m", "1");
        world.cancel(caller, id);
    }
    let waiting = world.nodes[caller].engine.queue.len();
    assert!(waiting < 1_000, "{waiting} entries for one request");
    world.instance("svc");
    world.connect(caller);
    world.run(ms(10));
    assert_eq!(world.ok(kept).as_deref(), Some("0"));
    assert_eq!(world.sent_to(caller, "svc.m"), 1);
}

#[test]
fn at_65536_in_flight_more_is_refused_as_busy_until_one_settles() {
    let mut world = World::new();
    let caller = world.add(settings("", "c"));
    let ids: Vec<u32> = (0..MAX_IN_FLIGHT).map(|_| world.request(caller, "svc.m", "1")).collect();
    let more = world.request(caller, "svc.m", "1");
    world.err(more, ErrorKind::Busy);
    let publish = world.publish(caller, "svc.m", "1");
    world.err(publish, ErrorKind::Busy);
    assert!(ids.iter().all(|id| world.is_open(*id)));
    world.cancel(caller, ids[77]);
    let fits = world.request(caller, "svc.m", "1");
    assert!(world.is_open(fits));
    let more = world.request(caller, "svc.m", "1");
    world.err(more, ErrorKind::Busy);
    world.run(ms(31_000));
    for id in ids.iter().filter(|id| **id != ids[77]) {
        world.err(*id, ErrorKind::TimedOut);
    }
    world.assert_idle(caller);
}

#[test]
fn each_kind_of_body_of_a_reply_settles_the_call() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    for (body, expected) in [
        (&b""[..], Ok(None)),
        (b"{}", Ok(None)),
        (b"{\"payload\":null}", Ok(Some("null"))),
        (b"{\"payload\":0}", Ok(Some("0"))),
        (b"{\"error\":\"boom\"}", Err(ErrorKind::HandlerFailed)),
        (b"{\"error\":\"gone\",\"code\":404}", Err(ErrorKind::MethodNotFound)),
        (b"{\"error\":\"Bad JSON request\"}", Err(ErrorKind::BadRequest)),
        (b"nonsense", Err(ErrorKind::BadResponse)),
        (b"\xff\xfe", Err(ErrorKind::BadResponse)),
    ] {
        let id = world.request(caller, "svc.m", "1");
        world.run(ms(10));
        let (_, sent) = world.nodes[caller].sent.last().unwrap();
        assert!(matches!(sent.headers, Headers::Call(_)));
        let reply = sent.reply.clone().unwrap();
        world.raw(service, &reply, None, body);
        world.run(ms(10));
        match expected {
            Ok(payload) => assert_eq!(world.ok(id).as_deref(), payload),
            Err(kind) => drop(world.err(id, kind)),
        }
    }
}
