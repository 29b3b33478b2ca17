//! A child process that was forked off: old handles say so, new ones work.
//!
//! Without the test harness, whose threads would not survive the fork.

#![cfg_attr(not(unix), allow(missing_docs))]

#[cfg(unix)]
mod support;

#[cfg(unix)]
fn main() {
    unix::main();
}

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
mod unix {
    use std::collections::BTreeSet;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::FromRawFd;
    use std::panic::{catch_unwind, AssertUnwindSafe};
    use std::time::Duration;

    use picom::{Context, ErrorKind, Methods, Picom};
    use serde_json::Value;
    use tokio::runtime::{Builder, Runtime};

    use super::support::{echo, soon, Server};

    pub(super) fn main() {
        let server = Server::start();
        let runtime = Runtime::new().unwrap();
        let (service, parent) = (server.picom("svc"), server.picom(""));
        let unused = server.picom("unused");
        let own_id = |_: Value| async {
            Context::current().and_then(|context| context.id().map(str::to_owned)).ok_or("no id")
        };
        let mut ids = BTreeSet::new();
        runtime.block_on(async {
            service.expose(Methods::new().add("id", own_id)).await.unwrap();
            ids.insert(instance(&parent).await);
        });
        for number in 0..3 {
            let id = in_child(|| {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    for old in [&service, &parent, &unused] {
                        refused(old).await;
                    }
                    drop(parent.clone());
                    works(&server, number).await
                })
            });
            assert!(ids.insert(id), "two processes have the same instance id: {ids:?}");
        }
        runtime.block_on(async {
            ids.insert(instance(&parent).await);
            assert_eq!(ids.len(), 4, "the parent is who it was");
            soon(service.close()).await.unwrap();
        });
        println!("fork: old handles are refused and new ones work in 3 children");
    }

    async fn refused(old: &Picom) {
        let ready = old.request_json("svc.id", None, Duration::ZERO).err().unwrap();
        for error in [
            ready,
            old.request::<_, Value>("svc.id", &1).await.unwrap_err(),
            old.publish("svc.id", &1).await.unwrap_err(),
            old.connect().await.unwrap_err(),
            old.close().await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Forked);
            assert!(error.message().contains("make a new one"), "{error}");
        }
        if !old.name().is_empty() {
            let error = old.expose(echo()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Forked);
        }
    }

    /// A caller and a service of the child's own.
    async fn works(server: &Server, number: u32) -> String {
        let name = format!("child{number}");
        let service = server.echo(&name).await;
        let caller = server.picom("");
        let value: i32 = soon(caller.request(&format!("{name}.echo"), &7)).await.unwrap();
        assert_eq!(value, 7);
        let id = instance(&caller).await;
        soon(service.close()).await.unwrap();
        soon(caller.close()).await.unwrap();
        id
    }

    /// The first part of a call's id is the id of the instance that calls.
    async fn instance(caller: &Picom) -> String {
        let id: String = soon(caller.request("svc.id", &1)).await.unwrap();
        id.rsplit_once('.').unwrap().0.to_owned()
    }

    /// Runs `work` in a child process, and returns what it returned.
    fn in_child(work: impl FnOnce() -> String) -> String {
        let mut ends = [0; 2];
        // SAFETY: `ends` has room for the two descriptors.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        // SAFETY: the child only runs `work`, which is what this test is about, and leaves by
        // `_exit`.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "fork failed");
        if child == 0 {
            // SAFETY: a child that hangs is ended by the signal.
            unsafe { libc::alarm(60) };
            // SAFETY: this end of the pipe is the child's, and used nowhere else.
            let mut pipe = unsafe { File::from_raw_fd(ends[1]) };
            let status = match catch_unwind(AssertUnwindSafe(work)) {
                Ok(text) => i32::from(pipe.write_all(text.as_bytes()).is_err()),
                Err(_) => 1,
            };
            // SAFETY: nothing of the parent's may be dropped or flushed here.
            unsafe { libc::_exit(status) };
        }
        // SAFETY: the parent does not write.
        unsafe { libc::close(ends[1]) };
        // SAFETY: this end of the pipe is the parent's, and used nowhere else.
        let mut pipe = unsafe { File::from_raw_fd(ends[0]) };
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        let mut status = 0;
        // SAFETY: `child` is a child of this process that nobody else waits for.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child failed: {text}");
        text
    }
}
