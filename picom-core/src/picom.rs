//! The Rust handle.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use once_cell::sync::OnceCell;
use serde::de::DeserializeOwned;
use serde::Serialize;
use tokio::sync::{broadcast, oneshot};

use crate::context::Context;
use crate::driver::Driver;
use crate::engine::{Notice, PublishCall, RequestCall, Settings};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{self, HostBatch, HostQueue};
use crate::methods::{self, Methods};
use crate::options::Options;
use crate::submit::{task_completer, Completer, Exposure, Shared, Submission};
use crate::transport::memory::MemoryTransport;
use crate::transport::nats::{self, NatsTransport};
use crate::transport::Transport;
use crate::wire::envelope::{self, Payload};
use crate::wire::message::Subject;
use crate::{name, process, runtime};

/// One instance of a service, or a caller. Clones are the same instance; when the last one is
/// dropped, the instance closes in the background.
#[derive(Clone)]
pub struct Picom {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    options: Arc<Options>,
    shared: Arc<Shared>,
    host: Option<Arc<HostQueue>>,
    notices: broadcast::Sender<Notice>,
    started: OnceCell<()>,
    generation: u64,
}

impl Picom {
    /// Makes an instance of the service `name`, or with an empty name a caller that exposes
    /// nothing. Does not connect yet: the first use does.
    ///
    /// # Errors
    /// `INVALID_NAME` and `INVALID_OPTION`.
    pub fn new(name: impl Into<String>, options: Options) -> Result<Picom> {
        Picom::build(name.into(), options, None)
    }

    /// An instance whose completions and calls go to a host's queue: for bindings.
    ///
    /// # Errors
    /// As [`Picom::new`].
    pub fn with_host(
        name: impl Into<String>,
        options: Options,
        queue: Arc<HostQueue>,
    ) -> Result<Picom> {
        Picom::build(name.into(), options, Some(queue))
    }

    fn build(name: String, options: Options, host: Option<Arc<HostQueue>>) -> Result<Picom> {
        options.validate()?;
        if !name.is_empty() {
            name::check_service(&name, &options.inbox_prefix)?;
            if options.inbox_prefix.starts_with(&format!("{name}.")) {
                let text = format!(
                    "Option inboxPrefix {} lies under the service's own name: replies would \
                     arrive as its calls",
                    options.inbox_prefix
                );
                return Err(Error::new(ErrorKind::InvalidOption, text));
            }
        }
        Ok(Picom {
            inner: Arc::new(Inner {
                name,
                options: Arc::new(options),
                shared: Arc::default(),
                host,
                notices: broadcast::channel(64).0,
                started: OnceCell::new(),
                generation: process::generation(),
            }),
        })
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Connects now, instead of at the first use. Calling it is optional.
    ///
    /// # Errors
    /// `CONNECT_FAILED` after `retries` more tries. The instance goes on trying, and calls wait
    /// for it until their deadline.
    pub async fn connect(&self) -> Result<()> {
        self.submit_and_wait(Submission::Connect).await
    }

    /// Exposes methods under this service's name, beside those exposed before; a method of the
    /// same name is replaced. Completes when the server has processed the subscription, so that
    /// a request sent after that finds it. Handlers run as tasks of the tokio runtime that this
    /// is called on, or of a small pool of picom's own.
    ///
    /// # Errors
    /// `INVALID_NAME` for a method that cannot be addressed, `PERMISSION_DENIED`, `TIMED_OUT`
    /// (the option `timeout`; the instance goes on trying), `CLOSED`.
    pub async fn expose(&self, methods: Methods) -> Result<()> {
        self.check_exposable()?;
        for (name, _) in &methods.list {
            name::check_method(name)?;
        }
        let runtime = match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime,
            Err(_) => runtime::pool()?.clone(),
        };
        let exposure = Exposure::Rust(methods, runtime);
        self.submit_and_wait(|done| Submission::Expose(exposure, done)).await
    }

    /// Calls `target` (`service.method`) with a message and waits for the reply. Dropping the
    /// future gives the call up.
    ///
    /// # Errors
    /// What the handler failed with, `METHOD_NOT_FOUND`, `NO_RESPONDER`, `TIMED_OUT`,
    /// `DISCONNECTED`, `TOO_LARGE`, `PERMISSION_DENIED`, `BAD_RESPONSE` (also where the reply
    /// does not fit `Reply`), `INVALID_NAME`, `INVALID_MESSAGE`, `BUSY`, `CLOSED`.
    pub async fn request<Message, Reply>(&self, target: &str, message: &Message) -> Result<Reply>
    where
        Message: Serialize + ?Sized,
        Reply: DeserializeOwned,
    {
        self.request_within(target, message, Duration::ZERO).await
    }

    /// As [`Picom::request`], with a timeout of its own; zero is the option `timeout`.
    ///
    /// # Errors
    /// As [`Picom::request`].
    pub async fn request_within<Message, Reply>(
        &self,
        target: &str,
        message: &Message,
        timeout: Duration,
    ) -> Result<Reply>
    where
        Message: Serialize + ?Sized,
        Reply: DeserializeOwned,
    {
        self.check_target(target)?;
        let (subject, body) = methods::write_call(target, message)?;
        let reply = self.begin_request(subject, body, timeout)?.await?;
        methods::read(reply.as_deref().unwrap_or_default()).map_err(|error| {
            let text = format!("The reply of {target} is not of the expected type: {error}");
            Error::new(ErrorKind::BadResponse, text)
        })
    }

    /// As [`Picom::request_within`], from JSON text to JSON text; `None` is "nothing".
    ///
    /// # Errors
    /// At once, `INVALID_NAME`, `INVALID_MESSAGE` for a body that is not JSON, and `FORKED`.
    pub fn request_json(&self, target: &str, body: Payload, timeout: Duration) -> Result<Replying> {
        let body = match body {
            None => Bytes::new(),
            Some(json) if envelope::is_json(&json) => json,
            Some(_) => {
                let text = "The message is not one JSON text";
                return Err(Error::new(ErrorKind::InvalidMessage, text));
            }
        };
        self.check_target(target)?;
        self.begin_request(target.into(), body, timeout)
    }

    /// The target has been checked; `body` is JSON, or empty.
    fn begin_request(&self, target: Subject, body: Bytes, timeout: Duration) -> Result<Replying> {
        let (done, receiver) = task_completer();
        let shared = self.shared()?;
        let key = shared.next_key();
        let call = RequestCall { done, target, body, timeout: Some(timeout), key: Some(key) };
        shared.submit(Submission::Request(Instant::now(), call));
        Ok(Replying {
            receiver,
            key,
            generation: self.inner.generation,
            shared: shared.clone(),
            settled: false,
        })
    }

    /// Calls `target` without an answer: one instance runs it. Completes when the server has
    /// taken the message.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `TIMED_OUT`, `DISCONNECTED`, `TOO_LARGE`, `INVALID_NAME`,
    /// `INVALID_MESSAGE`, `BUSY`, `CLOSED`.
    pub async fn publish<Message>(&self, target: &str, message: &Message) -> Result<()>
    where
        Message: Serialize + ?Sized,
    {
        self.check_target(target)?;
        let (target, body) = methods::write_call(target, message)?;
        let now = Instant::now();
        self.submit_and_wait(|done| Submission::Publish(now, PublishCall { done, target, body }))
            .await
    }

    /// Stops new work, lets handlers finish and their replies leave, and disconnects, all within
    /// the option `closeTimeout`. Called from a handler, it does not wait for that handler.
    /// What is still under way then settles as `CLOSED`. Closing twice is closing once.
    ///
    /// # Errors
    /// `FORKED`.
    pub async fn close(&self) -> Result<()> {
        let from = Context::current()
            .filter(|context| Arc::ptr_eq(&context.shared, &self.inner.shared))
            .map(|context| context.call);
        self.submit_and_wait(|done| Submission::Close(from, done)).await
    }

    /// What happens to this instance beside its calls: connections made and lost, and failures
    /// that no call reports. A receiver that falls more than 64 behind is told that it did.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.inner.notices.subscribe()
    }

    /// Submits what `fill` adds, for an instance with a host: one lock and one wake for all.
    ///
    /// # Errors
    /// `FORKED`, and `CONNECT_FAILED` where the background thread cannot be started.
    pub fn submit(&self, fill: impl FnOnce(&mut HostBatch<'_, '_>)) -> Result<()> {
        let shared = self.shared()?;
        if let Some(queue) = &self.inner.host {
            host::submit(shared, queue, fill);
        }
        Ok(())
    }

    /// The host goes away, without waiting for anything: its calls are answered with an error.
    /// An instance that was never used does not begin to connect for this.
    pub fn abandon(&self) {
        if self.inner.started.get().is_some() {
            // It fails only after a fork, where there is nothing to end.
            let _ = self.submit(|batch| batch.abandon());
        }
    }

    /// Checks a target, for a host that keeps those that it has checked.
    ///
    /// # Errors
    /// `INVALID_NAME`.
    pub fn check_target(&self, target: &str) -> Result<()> {
        name::check_target(target, &self.inner.options.inbox_prefix)
    }

    /// Checks that this instance can expose methods at all.
    ///
    /// # Errors
    /// `INVALID_NAME` for an instance without a name.
    pub fn check_exposable(&self) -> Result<()> {
        if self.inner.name.is_empty() {
            let text = "A Picom without a name cannot expose methods: give it one";
            return Err(Error::new(ErrorKind::InvalidName, text));
        }
        Ok(())
    }

    async fn submit_and_wait(&self, make: impl FnOnce(Completer) -> Submission) -> Result<()> {
        let (done, receiver) = task_completer();
        self.shared()?.submit(make(done));
        settled(receiver.await).map(drop)
    }

    /// The way to the engine, which is started where it was not.
    fn shared(&self) -> Result<&Arc<Shared>> {
        let inner = &self.inner;
        if inner.generation != process::generation() {
            let text = "This Picom was made before a fork: make a new one in this process";
            return Err(Error::new(ErrorKind::Forked, text));
        }
        inner.started.get_or_try_init(|| inner.start())?;
        Ok(&inner.shared)
    }
}

impl Inner {
    fn start(&self) -> Result<()> {
        // Fresh from the operating system: the state of a generator that lives on would be the
        // same in every child that this process forks, and with it their inboxes.
        let instance = nuid::NUID::new().next().to_string();
        let seed = RandomState::new().hash_one(&instance);
        let options = self.options.clone();
        let settings = Settings {
            service: self.name.clone(),
            inbox_prefix: options.inbox_prefix.clone(),
            instance,
            timeout: Some(options.timeout).filter(|timeout| !timeout.is_zero()),
            retries: options.retries,
            close_timeout: options.close_timeout,
            servers: nats::shown_servers(&options),
        };
        let transport: Box<dyn Transport> = match options.memory_bus() {
            Some(bus) => Box::new(MemoryTransport::join(bus)),
            None => Box::new(NatsTransport::new(options, self.name.clone())),
        };
        let (shared, host, notices) =
            (self.shared.clone(), self.host.clone(), self.notices.clone());
        let driver = Driver::new(settings, seed, transport, shared, host, notices);
        runtime::io()?.spawn(tokio::task::unconstrained(driver));
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.started.get().is_some() && self.generation == process::generation() {
            self.shared.submit(Submission::Close(None, Completer::Nobody));
        }
    }
}

/// A reply that is on its way. Dropping it gives the call up.
pub struct Replying {
    receiver: oneshot::Receiver<Result<Payload>>,
    key: u64,
    generation: u64,
    shared: Arc<Shared>,
    settled: bool,
}

impl Future for Replying {
    type Output = Result<Payload>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<Payload>> {
        let received = ready!(Pin::new(&mut self.receiver).poll(cx));
        self.settled = true;
        Poll::Ready(settled(received))
    }
}

impl Drop for Replying {
    fn drop(&mut self) {
        let here = self.generation == process::generation();
        if here && !self.settled && self.receiver.try_recv().is_err() {
            self.shared.submit(Submission::Cancel(self.key));
        }
    }
}

fn settled(
    received: std::result::Result<Result<Payload>, oneshot::error::RecvError>,
) -> Result<Payload> {
    received.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Closed, "The background thread of this Picom has ended"))
    })
}
