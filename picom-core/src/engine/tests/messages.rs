//! A bad message never hurts, and a large one is refused before the server would.

use super::world::{ms, settings, Handlers, World};
use crate::engine::{Notice, Outcome};
use crate::error::ErrorKind;

#[test]
fn bad_json_and_unknown_methods_are_typed_errors() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    for body in ["{", "1,2", "nul", "]", "\u{feff}1"] {
        let id = world.request(caller, "svc.m", body);
        world.run(ms(10));
        assert_eq!(world.err(id, ErrorKind::BadRequest).message(), "Bad JSON request");
    }
    for name in ["constructor", "__proto__", "x", ">", "m m", "größe"] {
        let id = world.request(caller, &format!("svc.{name}"), "1");
        world.run(ms(10));
        let error = world.err(id, ErrorKind::MethodNotFound);
        assert_eq!(error.message(), format!("Method not found \"{name}\""));
    }
    let deeper = world.request(caller, "svc.more.m", "1");
    world.run(ms(10));
    assert_eq!(world.ok(deeper).as_deref(), Some("1"));
    assert_eq!(world.nodes[service].calls.len(), 1);
    world.assert_idle(service);
}

#[test]
fn hostile_bodies_reach_no_handler_and_stop_nothing() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    let deep = "[".repeat(200_000);
    for body in [&b"\xff\xff"[..], b"\0", deep.as_bytes(), b"\"\\ud800"] {
        world.raw(caller, "svc.m", Some("_INBOX.c0.77"), body);
        world.raw(caller, "svc.m", None, body);
        world.raw(caller, "svc.nope", None, body);
    }
    world.run(ms(10));
    assert_eq!(world.nodes[service].calls.len(), 0);
    let replies = world.sent_to(service, "_INBOX.c0.77");
    assert_eq!(replies, 4, "one to each that has a reply subject");
    let id = world.request(caller, "svc.m", "1");
    world.run(ms(10));
    assert_eq!(world.ok(id).as_deref(), Some("1"));
}

#[test]
fn a_call_without_a_reply_subject_runs_and_nothing_is_sent() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let before = world.nodes[service].sent.len();
    for _ in 0..5 {
        world.raw(caller, "svc.m", None, b"1");
    }
    world.run(ms(10));
    world.reply(service, 0, Outcome::Returned(Some("1".into())));
    let failed = Outcome::Failed { message: "x".into(), details: None };
    world.reply(service, 1, failed);
    world.reply(service, 2, Outcome::BadRequest("x".into()));
    world.reply(service, 3, Outcome::NotFound("x".into()));
    world.reply(service, 4, Outcome::Expired);
    world.run(ms(10));
    assert_eq!(world.nodes[service].sent.len(), before);
    assert_eq!(world.nodes[service].engine.responder.active.awaited(), 0);
}

#[test]
fn every_outcome_reaches_the_caller_as_its_kind() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let details = Some("{\"sku\":7}".to_owned());
    let outcomes = [
        Outcome::Failed { message: "no stock".into(), details },
        Outcome::Failed { message: String::new(), details: None },
        Outcome::Failed { message: "broken".into(), details: Some("{".into()) },
        Outcome::BadRequest("Bad request: x".into()),
        Outcome::NotFound("gone".into()),
    ];
    let expected = [
        (ErrorKind::HandlerFailed, "no stock {\"sku\":7}"),
        (ErrorKind::HandlerFailed, "Handler failed"),
        (ErrorKind::HandlerFailed, "broken"),
        (ErrorKind::BadRequest, "Bad request: x"),
        (ErrorKind::MethodNotFound, "Method not found \"gone\""),
    ];
    for (index, (outcome, (kind, text))) in outcomes.into_iter().zip(expected).enumerate() {
        let id = world.request(caller, "svc.m", "1");
        world.run(ms(5));
        world.reply(service, index, outcome);
        world.run(ms(5));
        let error = world.err(id, kind);
        assert_eq!(error.message(), text);
        let has_details = error.details().map(|json| json.get());
        assert_eq!(has_details, (index == 0).then_some("{\"sku\":7}"));
    }
}

#[test]
fn an_expired_call_is_not_answered() {
    let mut world = World::new();
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let id = world.request_within(caller, "svc.m", "1", ms(50));
    world.run(ms(10));
    let before = world.nodes[service].sent.len();
    world.reply(service, 0, Outcome::Expired);
    world.run(ms(100));
    assert_eq!(world.nodes[service].sent.len(), before);
    world.err(id, ErrorKind::TimedOut);
}

#[test]
fn requests_and_publishes_above_max_payload_are_not_sent() {
    let mut world = World::new();
    let caller = world.add(settings("", "c"));
    world.server.max_payload = 1_000;
    let large = format!("\"{}\"", "x".repeat(1_000));
    // The limit is not known before there is a connection.
    let early = world.request(caller, "svc.m", &large);
    world.connect(caller);
    world.instance("svc");
    let request = world.request(caller, "svc.m", &large);
    let publish = world.publish(caller, "svc.m", &large);
    for (id, what) in
        [(early, "Request svc.m"), (request, "Request svc.m"), (publish, "Publish svc.m")]
    {
        let error = world.err(id, ErrorKind::TooLarge);
        assert!(error.message().contains(what) && error.message().contains("1000"), "{error}");
    }
    assert_eq!(world.sent_to(caller, "svc.m"), 0);
    world.assert_idle(caller);
}

#[test]
fn headers_count_and_what_fits_exactly_is_sent() {
    let mut world = World::new();
    world.server.max_payload = 1_000;
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    // A slot that is used again has a longer token.
    for _ in 0..2 {
        let probe = world.request(caller, "svc.m", "1");
        world.cancel(caller, probe);
    }
    let headers = world.nodes[caller].sent.last().unwrap().1.headers.wire_len();
    let body = |over: usize| format!("\"{}\"", "x".repeat(1_000 - headers - 2 + over));
    let (fits, over) = (body(0), body(1));
    let over = world.request(caller, "svc.m", &over);
    let fits = world.request(caller, "svc.m", &fits);
    world.run(ms(10));
    world.err(over, ErrorKind::TooLarge);
    // The simulated server would have refused anything larger.
    assert!(world.is_open(fits) && world.nodes[service].calls.len() == 3);
}

#[test]
fn a_reply_above_max_payload_becomes_an_error_and_a_notice() {
    let mut world = World::new();
    world.server.max_payload = 1_000;
    let (caller, service) = (world.caller(), world.instance("svc"));
    world.nodes[service].handlers = Handlers::Hold;
    let id = world.request(caller, "svc.m", "1");
    let second = world.request(caller, "svc.m", "1");
    world.run(ms(10));
    world.reply(service, 0, Outcome::Returned(Some(format!("\"{}\"", "x".repeat(2_000)).into())));
    let failed = Outcome::Failed { message: "y".repeat(2_000), details: None };
    world.reply(service, 1, failed);
    world.run(ms(10));
    for id in [id, second] {
        let error = world.err(id, ErrorKind::TooLarge);
        assert!(error.message().contains("max_payload"), "{error}");
    }
    let told = world.nodes[service].notices.iter();
    let told = told.filter(|n| matches!(n, Notice::Failed(e) if e.kind() == ErrorKind::TooLarge));
    assert!(told.count() >= 1);
    assert!(world.is_connected(service));
}
