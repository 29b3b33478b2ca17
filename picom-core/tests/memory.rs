//! The public API, sentence by sentence, on a bus inside this process.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use picom::{Context, ErrorKind, HandlerError, Methods, Notice, Options, Picom};
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};
use support::{echo, ms, soon};
use tokio::sync::{mpsc, Notify};

fn on(bus: &str) -> Options {
    Options::new().server(format!("memory://{bus}"))
}

fn caller(bus: &str) -> Picom {
    Picom::new("", on(bus)).unwrap()
}

async fn service(bus: &str, methods: Methods) -> Picom {
    let service = Picom::new("svc", on(bus)).unwrap();
    service.expose(methods).await.unwrap();
    service
}

/// A handler that tells when it begins and ends when it is told to.
struct Gate {
    begun: mpsc::UnboundedReceiver<()>,
    open: Arc<Notify>,
    methods: Methods,
}

fn gate() -> Gate {
    let (begin, begun) = mpsc::unbounded_channel();
    let open = Arc::new(Notify::new());
    let until = open.clone();
    let methods = Methods::new().add("wait", move |(): ()| {
        let (begin, until) = (begin.clone(), until.clone());
        async move {
            begin.send(()).map_err(|error| error.to_string())?;
            until.notified().await;
            Ok::<_, String>("done")
        }
    });
    Gate { begun, open, methods }
}

#[test]
fn names_and_options_are_checked_before_anything_happens() {
    for name in ["a b", "a.*", ">", "_INBOX", "_picom.x", "$SYS", "a..b", ".", "a\nb"] {
        let error = Picom::new(name, on("names")).err().expect(name);
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{name}");
    }
    let error = Picom::new("svc", Options::new().server("http://x")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    assert_eq!(Picom::new("shop.orders", on("names")).unwrap().name(), "shop.orders");
}

#[tokio::test]
async fn targets_and_method_names_are_checked() {
    let service = service("targets", echo()).await;
    for target in ["svc", "svc.", "svc.a b", "$SYS.x", "_INBOX.x", "svc.*", ""] {
        let error = service.request::<_, Value>(target, &1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{target}");
        let error = service.publish(target, &1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{target}");
    }
    for name in ["a.b", "", "a b", "*"] {
        let methods = Methods::new().add(name, |(): ()| async { Ok::<_, String>(()) });
        let error = service.expose(methods).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{name}");
    }
    let error = caller("targets").expose(echo()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    assert!(error.message().contains("give it one"), "{error}");
}

#[tokio::test]
async fn expose_adds_and_replaces() {
    let service = service("add", echo()).await;
    let answer = |n: i32| move |(): ()| async move { Ok::<_, String>(n) };
    service.expose(Methods::new().add("one", answer(1)).add("two", answer(2))).await.unwrap();
    service.expose(Methods::new().add("two", answer(22))).await.unwrap();
    let caller = caller("add");
    assert_eq!(caller.request::<_, i32>("svc.one", &()).await.unwrap(), 1);
    assert_eq!(caller.request::<_, i32>("svc.two", &()).await.unwrap(), 22);
    assert_eq!(caller.request::<_, Value>("svc.echo", &"x").await.unwrap(), json!("x"));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: f64,
    y: Option<i64>,
}

#[tokio::test]
async fn values_of_serde_types_come_and_go() {
    let methods = Methods::new()
        .add("swap", |p: Point| async move { Ok::<_, String>(Point { x: 0.5, y: p.y }) })
        .add("nothing", |_: Value| async { Ok::<_, String>(()) })
        .add("null", |_: Value| async { Ok::<_, String>(None::<i32>) })
        .add("got", |got: Option<i32>| async move { Ok::<_, String>(got.is_some()) });
    let _service =
        service("types", methods.clone().add("echo", |v: Value| async { Ok::<_, String>(v) }))
            .await;
    let caller = caller("types");
    let point: Point = caller.request("svc.swap", &Point { x: 1.0, y: Some(7) }).await.unwrap();
    assert_eq!(point, Point { x: 0.5, y: Some(7) });
    for value in [json!(0), json!(false), json!(""), json!(null), json!({"ä": [1.5, "\u{1f600}"]})]
    {
        assert_eq!(caller.request::<_, Value>("svc.echo", &value).await.unwrap(), value);
    }
    caller.request::<_, ()>("svc.nothing", &1).await.unwrap();
    assert_eq!(caller.request::<_, Option<i32>>("svc.nothing", &1).await.unwrap(), None);
    assert!(!caller.request::<_, bool>("svc.got", &()).await.unwrap());
    assert!(!caller.request::<_, bool>("svc.got", &None::<i32>).await.unwrap());
    assert!(caller.request::<_, bool>("svc.got", &1).await.unwrap());
    let nothing = caller.request_json("svc.nothing", None, Duration::ZERO).unwrap();
    assert_eq!(nothing.await.unwrap(), None);
    let null = caller.request_json("svc.null", Some("1".into()), Duration::ZERO).unwrap();
    assert_eq!(null.await.unwrap().as_deref(), Some(&b"null"[..]));
}

#[tokio::test]
async fn values_that_do_not_fit_are_typed_errors() {
    let methods = Methods::new()
        .add("double", |n: i64| async move { Ok::<_, String>(n * 2) })
        .add("unfit", |(): ()| async { Ok::<_, String>(HashMap::from([((1, 2), 3)])) });
    let _service = service("unfit", methods).await;
    let caller = caller("unfit");
    let error = caller.request::<_, i64>("svc.double", "two").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadRequest);
    assert!(error.message().starts_with("Bad request: invalid type"), "{error}");
    let error = caller.request::<_, String>("svc.double", &2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadResponse);
    assert!(error.message().starts_with("The reply of svc.double is not of"), "{error}");
    let error = caller.request::<_, Value>("svc.unfit", &()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HandlerFailed);
    assert!(error.message().contains("JSON cannot hold"), "{error}");
    let map = HashMap::from([((1, 2), 3)]);
    let error = caller.request::<_, Value>("svc.double", &map).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidMessage);
    let error = caller.publish("svc.double", &map).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidMessage);
    for body in ["", "{", "1,2", "\u{feff}1"] {
        let refused = caller.request_json("svc.double", Some(body.into()), Duration::ZERO);
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::InvalidMessage, "{body}");
    }
    let error = caller.request::<_, Value>("svc.missing", &1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MethodNotFound);
    assert_eq!(error.message(), "Method not found \"missing\"");
}

#[tokio::test]
async fn failures_of_handlers_arrive_whole() {
    let failing = |_: ()| async {
        let details = json!({"sku": 7, "left": null});
        Err::<(), _>(HandlerError::new("no stock").with_details(&details).unwrap())
    };
    let methods = Methods::new()
        .add("text", |(): ()| async { Err::<(), _>("plain".to_owned()) })
        .add("empty", |(): ()| async { Err::<(), _>(String::new()) })
        .add("details", failing)
        .add("panic", |n: i32| async move {
            assert!(n != 1, "odd {n}");
            Ok::<_, String>(n)
        })
        .add("early", |n: i32| {
            if n == 1 {
                panic!("too early");
            }
            async move { Ok::<_, String>(n) }
        });
    let _service = service("failures", methods).await;
    let caller = caller("failures");
    let fail = async |method: &str, message: Value| {
        let target = format!("svc.{method}");
        let error = caller.request::<_, Value>(&target, &message).await.unwrap_err();
        assert_eq!((error.kind(), error.number()), (ErrorKind::HandlerFailed, 500));
        (error.message().to_owned(), error.details().map(|json| json.get().to_owned()))
    };
    assert_eq!(fail("text", json!(null)).await, ("plain".into(), None));
    assert_eq!(fail("empty", json!(null)).await, ("Handler failed".into(), None));
    let (text, details) = fail("details", json!(null)).await;
    let details: Value = serde_json::from_str(&details.unwrap()).unwrap();
    assert_eq!(details, json!({"sku": 7, "left": null}));
    let fields = text.strip_prefix("no stock ").unwrap();
    assert_eq!(serde_json::from_str::<Value>(fields).unwrap(), details);
    assert_eq!(fail("panic", json!(1)).await, ("Handler panicked: odd 1".into(), None));
    assert_eq!(fail("early", json!(1)).await, ("Handler panicked: too early".into(), None));
    for method in ["svc.panic", "svc.early"] {
        assert_eq!(caller.request::<_, i32>(method, &2).await.unwrap(), 2, "the service goes on");
    }
}

#[tokio::test]
async fn a_handler_whose_runtime_ends_is_a_failure_for_its_caller() {
    let mut gate = gate();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let methods = gate.methods.clone();
    let _service = runtime.spawn(async move { service("runtime", methods).await }).await.unwrap();
    let caller = caller("runtime");
    let pending = caller.request_json("svc.wait", None, Duration::ZERO).unwrap();
    soon(gate.begun.recv()).await.unwrap();
    runtime.shutdown_background();
    let error = soon(pending).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HandlerFailed);
    assert_eq!(error.message(), "The handler was dropped before it finished");
}

#[tokio::test]
async fn the_context_belongs_to_the_task_of_the_handler() {
    let methods = Methods::new().add("look", |(): ()| async {
        let context = Context::current().ok_or("no context")?;
        let elsewhere = tokio::spawn(async { Context::current().is_none() }).await.unwrap();
        let left = context.time_left().map(|left| left.as_millis() as u64);
        Ok::<_, &str>((context.id().map(str::to_owned), left, elsewhere))
    });
    let _service = service("context", methods).await;
    assert!(Context::current().is_none());
    type Seen = (Option<String>, Option<u64>, bool);
    let timed = caller("context");
    let (id, left, elsewhere): Seen =
        timed.request_within("svc.look", &(), ms(10_000)).await.unwrap();
    let (next, _, _): Seen = timed.request("svc.look", &()).await.unwrap();
    assert!(id.is_some() && id != next && elsewhere);
    assert!((9_000..=10_000).contains(&left.unwrap()), "{left:?}");
    let endless = Picom::new("", on("context").timeout(Duration::ZERO)).unwrap();
    let (_, left, _): Seen = endless.request("svc.look", &()).await.unwrap();
    assert_eq!(left, None);
}

#[tokio::test]
async fn user_code_runs_where_expose_was_called_and_never_on_the_io_thread() {
    let thread = |_: ()| async {
        let current = std::thread::current();
        Ok::<_, String>((format!("{:?}", current.id()), current.name().map(str::to_owned)))
    };
    let here = service("threads", Methods::new().add("thread", thread)).await;
    let caller = caller("threads");
    let (id, _): (String, Option<String>) = caller.request("svc.thread", &()).await.unwrap();
    assert_eq!(id, format!("{:?}", std::thread::current().id()));
    here.close().await.unwrap();
    // Outside of any runtime: a small pool of picom's own.
    let elsewhere = std::thread::spawn(move || {
        let service = Picom::new("pool", on("threads")).unwrap();
        let exposed = service.expose(Methods::new().add("thread", thread));
        wait_for(exposed).unwrap();
        service
    });
    let _service = tokio::task::spawn_blocking(move || elsewhere.join().unwrap()).await.unwrap();
    let (_, name): (String, Option<String>) = caller.request("pool.thread", &()).await.unwrap();
    assert_eq!(name.as_deref(), Some("picom-handlers"));
}

/// Waits for a future on this thread, without tokio.
fn wait_for<F: std::future::Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[tokio::test]
async fn expired_work_is_dropped_before_its_handler_runs() {
    let ran = Arc::new(AtomicU32::new(0));
    let counter = ran.clone();
    let methods = Methods::new().add("count", move |(): ()| {
        counter.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, String>(()) }
    });
    let _service = service("expired", methods).await;
    let caller = caller("expired");
    caller.request::<_, ()>("svc.count", &()).await.unwrap();
    let pending = caller.request_json("svc.count", None, ms(20)).unwrap();
    // The handler's runtime is this thread, and this thread is busy beyond the deadline.
    std::thread::sleep(ms(100));
    assert_eq!(pending.await.unwrap_err().kind(), ErrorKind::TimedOut);
    caller.request::<_, ()>("svc.count", &()).await.unwrap();
    assert_eq!(ran.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn clones_are_one_instance_and_dropping_the_last_closes_it() {
    let mut gate = gate();
    let service = service("last", gate.methods).await;
    let clone = service.clone();
    drop(service);
    let caller = Picom::new("", on("last").retries(0)).unwrap();
    let pending = caller.request_json("svc.wait", None, Duration::ZERO).unwrap();
    soon(gate.begun.recv()).await.unwrap();
    drop(clone);
    let gone = async {
        while caller
            .request_within::<_, Value>("svc.none", &(), ms(1_000))
            .await
            .unwrap_err()
            .kind()
            != ErrorKind::NoResponder
        {}
    };
    soon(gone).await;
    // What was under way is finished all the same.
    gate.open.notify_waiters();
    assert_eq!(soon(pending).await.unwrap().as_deref(), Some(&b"\"done\""[..]));
}

#[tokio::test]
async fn close_lets_handlers_finish_and_ends_everything_else() {
    let mut gate = gate();
    let service = service("close", gate.methods).await;
    let caller = caller("close");
    let pending = caller.request_json("svc.wait", None, Duration::ZERO).unwrap();
    soon(gate.begun.recv()).await.unwrap();
    let own = service.request_json("svc.wait", None, Duration::ZERO).unwrap();
    soon(gate.begun.recv()).await.unwrap();
    let closing = tokio::spawn({
        let service = service.clone();
        async move { service.close().await }
    });
    let refused = async {
        while caller.request::<_, Value>("svc.none", &()).await.unwrap_err().kind()
            != ErrorKind::NoResponder
        {}
    };
    soon(refused).await;
    assert!(!closing.is_finished());
    gate.open.notify_waiters();
    assert_eq!(soon(pending).await.unwrap().as_deref(), Some(&b"\"done\""[..]));
    soon(closing).await.unwrap().unwrap();
    assert_eq!(soon(own).await.unwrap().as_deref(), Some(&b"\"done\""[..]));
    service.close().await.unwrap();
    for error in [
        service.request::<_, Value>("svc.wait", &()).await.unwrap_err(),
        service.publish("svc.wait", &()).await.unwrap_err(),
        service.expose(echo()).await.unwrap_err(),
        service.connect().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
}

#[tokio::test]
async fn close_timeout_bounds_closing() {
    let mut gate = gate();
    let service = Picom::new("svc", on("cut").close_timeout(ms(100))).unwrap();
    service.expose(gate.methods).await.unwrap();
    let caller = caller("cut");
    let pending = caller.request_json("svc.wait", None, ms(200)).unwrap();
    soon(gate.begun.recv()).await.unwrap();
    let own = service.request_json("svc.wait", None, Duration::ZERO).unwrap();
    soon(gate.begun.recv()).await.unwrap();
    let start = Instant::now();
    service.close().await.unwrap();
    assert!(start.elapsed() >= ms(100));
    support::promised("close with closeTimeout 100 ms", ms(150), start.elapsed());
    assert_eq!(own.await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(pending.await.unwrap_err().kind(), ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_handler_may_close_its_own_instance() {
    let held = Arc::new(Mutex::new(None::<Picom>));
    let (closed, mut seen) = mpsc::unbounded_channel();
    let (place, own) = (held.clone(), Picom::new("svc", on("self")).unwrap());
    let methods = Methods::new().add("stop", move |(): ()| {
        let (picom, closed) = (place.lock().unwrap().take().unwrap(), closed.clone());
        async move {
            let result = picom.close().await;
            closed.send(result.is_ok()).map_err(|error| error.to_string())
        }
    });
    *held.lock().unwrap() = Some(own.clone());
    own.expose(methods).await.unwrap();
    let caller = caller("self");
    let start = Instant::now();
    let pending = caller.request_json("svc.stop", None, ms(10_000)).unwrap();
    assert_eq!(soon(seen.recv()).await, Some(true));
    support::promised("close from a handler", ms(100), start.elapsed());
    drop(pending);
}

#[tokio::test]
async fn two_instances_share_the_load_and_a_publish_reaches_one() {
    let counts = [Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0))];
    let mut services = Vec::new();
    for count in &counts {
        let count = count.clone();
        let methods = Methods::new().add("count", move |(): ()| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, String>(()) }
        });
        services.push(service("share", methods).await);
    }
    let caller = caller("share");
    for _ in 0..100 {
        caller.request::<_, ()>("svc.count", &()).await.unwrap();
    }
    let both = || counts.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert_eq!(both().iter().sum::<u32>(), 100);
    assert!(both().iter().all(|count| *count > 0), "{:?}", both());
    caller.publish("svc.count", &()).await.unwrap();
    // Closing waits for the handler of the publish.
    for service in services {
        service.close().await.unwrap();
    }
    assert_eq!(both().iter().sum::<u32>(), 101);
}

#[tokio::test]
async fn connect_and_notices() {
    let picom = caller("notices");
    let mut notices = picom.notices();
    picom.connect().await.unwrap();
    assert!(matches!(notices.recv().await.unwrap(), Notice::Connected));
    picom.connect().await.unwrap();
    picom.close().await.unwrap();
    let never_used = caller("notices");
    never_used.close().await.unwrap();
    assert_eq!(never_used.connect().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn requests_settle_in_time() {
    let gate = gate();
    let _service = service("time", gate.methods).await;
    let caller = caller("time");
    let start = Instant::now();
    let error = caller.request::<_, Value>("nobody.m", &()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoResponder);
    support::promised("no responder, with three retries", ms(150), start.elapsed());
    let start = Instant::now();
    let error = caller.request_within::<_, Value>("svc.wait", &(), ms(100)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let took = start.elapsed();
    assert!(took >= ms(100), "early");
    support::promised("a timeout of 100 ms, beyond it", ms(50), took - ms(100));
    let far = caller.request_within::<_, Value>("nobody.m", &(), Duration::MAX).await;
    assert_eq!(far.unwrap_err().kind(), ErrorKind::NoResponder);
}
