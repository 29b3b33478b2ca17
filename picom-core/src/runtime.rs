//! The one background thread: a current-thread tokio runtime, started when it is first needed
//! and shared by every `Picom` of the process.
//!
//! A thread does not survive a fork, so the runtime belongs to the process that started it: a
//! child that uses picom starts its own, and leaves the inherited one alone.

use std::sync::atomic::{AtomicPtr, Ordering};
use std::thread;

use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{Error, ErrorKind, Result};
use crate::process;

struct Generation {
    forks: u64,
    io: OnceCell<Handle>,
    pool: OnceCell<Runtime>,
}

static CURRENT: AtomicPtr<Generation> = AtomicPtr::new(std::ptr::null_mut());

fn current() -> &'static Generation {
    let forks = process::generation();
    loop {
        let present = CURRENT.load(Ordering::Acquire);
        // SAFETY: the pointer is null or came from `Box::into_raw` below, and is never freed.
        if let Some(generation) = unsafe { present.as_ref() } {
            if generation.forks == forks {
                return generation;
            }
        }
        let io = OnceCell::new();
        let fresh = Box::into_raw(Box::new(Generation { forks, io, pool: OnceCell::new() }));
        if CURRENT.compare_exchange(present, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: nobody else has seen `fresh`.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
}

/// The background thread's runtime.
///
/// # Errors
/// `CONNECT_FAILED` when the operating system refuses the thread or its descriptors.
pub(crate) fn io() -> Result<&'static Handle> {
    current().io.get_or_try_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(refused)?;
        let handle = runtime.handle().clone();
        thread::Builder::new()
            .name("picom-io".into())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .map_err(refused)?;
        Ok(handle)
    })
}

/// A small pool for handlers that were exposed outside of a tokio runtime.
///
/// # Errors
/// `CONNECT_FAILED` when the operating system refuses the threads.
pub(crate) fn pool() -> Result<&'static Handle> {
    let pool = current().pool.get_or_try_init(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("picom-handlers")
            .enable_all()
            .build()
            .map_err(refused)
    })?;
    Ok(pool.handle())
}

fn refused(error: std::io::Error) -> Error {
    let text = format!("Cannot start a background thread: {error}");
    Error::new(ErrorKind::ConnectFailed, text)
}
