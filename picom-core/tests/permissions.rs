//! Who may connect, and what they may do.

mod support;

use std::time::{Duration, Instant};

use picom::{ErrorKind, Notice, Options, Picom};
use serde_json::Value;
use support::{ms, noticed, promised, soon, Server};

async fn serves(server: &Server, options: impl Fn() -> Options) {
    let service = Picom::new("svc", options()).unwrap();
    service.expose(support::echo()).await.unwrap();
    let caller = Picom::new("", options()).unwrap();
    assert_eq!(caller.request::<_, i32>("svc.echo", &1).await.unwrap(), 1);
    caller.publish("svc.echo", &1).await.unwrap();
    service.close().await.unwrap();
    assert!(server.port > 0);
}

async fn refused(options: Options, advice: &str) {
    let caller = Picom::new("", options.retries(0)).unwrap();
    let error = soon(caller.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectFailed);
    assert!(error.message().contains(advice), "{error}");
    assert!(!error.message().contains("s3cret"), "{error}");
    // A call says it too.
    let error = caller.request_within::<_, Value>("svc.echo", &1, ms(300)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.message().contains("not connected to"), "{error}");
    assert!(!error.message().contains("s3cret"), "{error}");
}

const CHECK: &str = "check the options user and pass";

#[tokio::test]
async fn user_and_password() {
    let server = Server::with_config("authorization { user: bob, password: \"s3cret @:/%\" }");
    serves(&server, || server.options().user_and_pass("bob", "s3cret @:/%")).await;
    let url = format!("nats://bob:s3cret%20%40%3A%2F%25@127.0.0.1:{}", server.port);
    serves(&server, || Options::new().server(&url)).await;
    // Options go before what the address says.
    let wrong = format!("nats://bob:wrong@127.0.0.1:{}", server.port);
    serves(&server, || Options::new().server(&wrong).user_and_pass("bob", "s3cret @:/%")).await;
    refused(server.options(), CHECK).await;
    refused(server.options().user_and_pass("bob", "s3cret"), CHECK).await;
    refused(server.options().user_and_pass("eve", "s3cret @:/%"), CHECK).await;
    refused(Options::new().server(wrong.replace("wrong", "s3cret")), CHECK).await;
}

#[tokio::test]
async fn tokens() {
    let server = Server::with_config("authorization { token: \"t-s3cret\" }");
    serves(&server, || server.options().token("t-s3cret")).await;
    let url = format!("nats://t-s3cret@127.0.0.1:{}", server.port);
    serves(&server, || Options::new().server(&url)).await;
    refused(server.options().token("s3cret"), CHECK).await;
}

#[tokio::test]
async fn nkeys() {
    let (known, unknown) = (nkeys::KeyPair::new_user(), nkeys::KeyPair::new_user());
    let config = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", known.public_key());
    let server = Server::with_config(&config);
    serves(&server, || server.options().nkey(known.seed().unwrap())).await;
    refused(server.options().nkey(unknown.seed().unwrap()), CHECK).await;
}

#[tokio::test]
async fn credentials_that_cannot_be_used_say_so() {
    let server = Server::start();
    for credentials in ["/no/such/file.creds", "-----BEGIN nonsense-----"] {
        let options = server.options().credentials(credentials).retries(0);
        let caller = Picom::new("", options).unwrap();
        let error = soon(caller.connect()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        assert!(error.message().contains("credentials"), "{error}");
    }
}

#[tokio::test]
async fn a_password_that_is_taken_away_and_given_back() {
    let mut server = Server::start();
    let caller = server.picom("");
    caller.connect().await.unwrap();
    let mut told = caller.notices();
    server.kill();
    server.configure("authorization { user: bob, password: \"s3cret\" }");
    server.start_again();
    let failed = noticed(&mut told, |notice| matches!(notice, Notice::Failed(_))).await;
    println!("{failed:?}");
    let error = caller.request_within::<_, Value>("svc.m", &1, ms(500)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.message().contains("not connected to"), "{error}");
    server.kill();
    server.configure("");
    server.start_again();
    noticed(&mut told, |notice| matches!(notice, Notice::Reconnected)).await;
    let error = caller.request::<_, Value>("svc.m", &1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoResponder);
}

/// One user, `u`, with these permissions, and one that may do everything.
fn permitting(permissions: &str) -> Server {
    Server::with_config(&format!(
        "authorization {{ users: [ {{ user: u, password: p, permissions: {{ {permissions} }} }},\n\
         {{ user: all, password: p }} ] }}"
    ))
}

fn user(server: &Server, name: &str) -> Options {
    server.options().user_and_pass(name, "p")
}

#[tokio::test]
async fn a_refused_target_is_typed_every_time() {
    let server = permitting("publish: { deny: [\"secret.>\"] }");
    let service = Picom::new("svc", user(&server, "all")).unwrap();
    service.expose(support::echo()).await.unwrap();
    let caller = Picom::new("", user(&server, "u")).unwrap();
    caller.connect().await.unwrap();
    let start = Instant::now();
    let error = caller.request::<_, Value>("secret.m", &1).await.unwrap_err();
    promised("a refused request", ms(50), start.elapsed());
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.message().contains("may not publish to secret.m"), "{error}");
    // The refusal and the proof of a publish come together: the refusal has to win each time,
    // also while much else is going on.
    for _ in 0..20 {
        let busy = (0..50).map(|_| caller.request::<_, i32>("svc.echo", &1));
        let busy = futures_util::future::join_all(busy);
        let refused = (0..20).map(|_| caller.publish("secret.m", &1));
        let refused = futures_util::future::join_all(refused);
        let taken = (0..20).map(|_| caller.publish("svc.echo", &1));
        let taken = futures_util::future::join_all(taken);
        let (busy, refused, taken) = soon(async { tokio::join!(busy, refused, taken) }).await;
        assert!(busy.iter().all(Result::is_ok) && taken.iter().all(Result::is_ok));
        for result in refused {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
    }
}

/// None of many refusals may be lost, or the publish would pass for one that the server has
/// taken.
#[tokio::test]
async fn many_refused_targets_at_once_are_typed_each() {
    let server = permitting("publish: { allow: [\"_INBOX.>\", \"svc.>\"] }, subscribe: \">\"");
    let caller = Picom::new("", user(&server, "u")).unwrap();
    caller.connect().await.unwrap();
    let publishes = (0..1000).map(|n| {
        let caller = caller.clone();
        async move {
            let allowed = n % 10 == 0;
            let target = if allowed { format!("svc.m{n}") } else { format!("no{n}.m") };
            (allowed, caller.publish(&target, &n).await)
        }
    });
    for (allowed, result) in soon(futures_util::future::join_all(publishes)).await {
        match result {
            Ok(()) => assert!(allowed),
            Err(error) => {
                assert!(!allowed);
                assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            }
        }
    }
}

#[tokio::test]
async fn a_refused_service_subject_is_typed() {
    let server = permitting("subscribe: { allow: [\"_INBOX.>\"] }");
    let service = Picom::new("svc", user(&server, "u")).unwrap();
    let mut told = service.notices();
    for _ in 0..2 {
        let error = soon(service.expose(support::echo())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.message().contains("may not subscribe to svc.>"), "{error}");
    }
    noticed(&mut told, |notice| matches!(notice, Notice::Failed(_))).await;
    // Its own calls need no such subscription.
    let other = Picom::new("other", user(&server, "all")).unwrap();
    other.expose(support::echo()).await.unwrap();
    assert_eq!(service.request::<_, i32>("other.echo", &1).await.unwrap(), 1);
    soon(service.close()).await.unwrap();
}

#[tokio::test]
async fn a_refused_inbox_is_typed_and_a_prefix_that_is_allowed_works() {
    let server = permitting("subscribe: { allow: [\"my.inbox.>\", \"svc.>\"] }");
    let lost = Picom::new("svc", user(&server, "u")).unwrap();
    for _ in 0..2 {
        for error in [
            soon(lost.request::<_, Value>("svc.echo", &1)).await.unwrap_err(),
            soon(lost.publish("svc.echo", &1)).await.unwrap_err(),
            soon(lost.expose(support::echo())).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert!(error.message().contains("inboxPrefix"), "{error}");
        }
    }
    let start = Instant::now();
    soon(lost.close()).await.unwrap();
    promised("closing without an inbox", ms(100), start.elapsed());
    serves(&server, || user(&server, "u").inbox_prefix("my.inbox")).await;
}

#[tokio::test]
async fn a_caller_that_may_only_send_requests_is_enough() {
    let server =
        permitting("publish: { allow: [\"svc.>\"] }, subscribe: { allow: [\"_INBOX.>\"] }");
    let service = Picom::new("svc", user(&server, "all")).unwrap();
    service.expose(support::echo()).await.unwrap();
    let caller = Picom::new("", user(&server, "u")).unwrap();
    assert_eq!(caller.request::<_, i32>("svc.echo", &1).await.unwrap(), 1);
    // The barrier itself is refused: that is proof as well.
    soon(caller.publish("svc.echo", &1)).await.unwrap();
    let error = soon(caller.publish("other.m", &1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    soon(caller.close()).await.unwrap();
}

#[tokio::test]
async fn a_responder_needs_no_more_than_allow_responses() {
    let server = permitting(
        "publish: { deny: [\">\"] }, subscribe: { allow: [\"svc.>\", \"_INBOX.>\"] }, \
         allow_responses: true",
    );
    let service = Picom::new("svc", user(&server, "u")).unwrap();
    soon(service.expose(support::echo())).await.unwrap();
    let caller = Picom::new("", user(&server, "all")).unwrap();
    for n in 0..20 {
        assert_eq!(caller.request::<_, i32>("svc.echo", &n).await.unwrap(), n);
    }
    soon(service.close()).await.unwrap();
}

#[tokio::test]
async fn a_responder_that_may_not_reply_is_told() {
    let server = permitting("publish: { deny: [\"_INBOX.>\"] }");
    let service = Picom::new("svc", user(&server, "u")).unwrap();
    let mut told = service.notices();
    service.expose(support::echo()).await.unwrap();
    let caller = Picom::new("", user(&server, "all")).unwrap();
    let pending = caller.request_json("svc.echo", Some("1".into()), Duration::ZERO).unwrap();
    let failed = noticed(&mut told, |notice| matches!(notice, Notice::Failed(_))).await;
    let Notice::Failed(error) = failed else { unreachable!() };
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.message().contains("allow_responses"), "{error}");
    drop(pending);
}
