//! What belongs to a call beside its message.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::CallId;
use crate::submit::Shared;
use crate::wire::message::Subject;

tokio::task_local! {
    pub(crate) static CURRENT: Context;
}

/// The call that a handler works on. See [`Context::current`].
#[derive(Clone)]
pub struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) call: CallId,
    pub(crate) id: Option<Subject>,
    pub(crate) expires: Option<Instant>,
}

impl Context {
    /// The context of the handler that this runs in, or `None` outside of one. It is the task's:
    /// in a task that the handler spawned there is none.
    pub fn current() -> Option<Context> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// The caller's id of this call, unique in the world, where the caller gave one (callers of
    /// picom 0.6 do not). A call that is tried again keeps its id.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// What is left of the caller's deadline, or `None` if there is none. Nobody reads the
    /// reply after it.
    pub fn time_left(&self) -> Option<Duration> {
        self.expires.map(|expires| expires.saturating_duration_since(Instant::now()))
    }
}
