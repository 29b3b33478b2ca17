//! Which process this is: threads, connections and locks do not survive a fork.

use std::sync::atomic::{AtomicU64, Ordering};

use once_cell::sync::Lazy;

/// How often this process was forked off, counted from the first use of picom.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// Which process this is, as a number that changes with each fork. Cheaper than a process id,
/// which is a system call.
pub(crate) fn generation() -> u64 {
    static WATCH: Lazy<()> = Lazy::new(watch_forks);
    Lazy::force(&WATCH);
    FORKS.load(Ordering::Relaxed)
}

#[cfg(unix)]
fn watch_forks() {
    extern "C" fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: `forked` only adds to an atomic number, which is allowed in a forked child, and it
    // stays valid for the life of the process, since a library with threads is never unloaded.
    unsafe {
        libc::pthread_atfork(None, None, Some(forked));
    }
}

#[cfg(not(unix))]
fn watch_forks() {}
