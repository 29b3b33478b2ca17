//! The native half of the npm package: the batch boundary of the core, spoken in numbers and one
//! text. `lib/native.js` is the other half; the records below are what the two agree on.
//!
//! All of it runs on the thread of one JavaScript environment. The core's thread only ever calls
//! `wake`.

mod errors;
mod records;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use napi::bindgen_prelude::{Function, Int32ArraySlice};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Env, JsString};
use napi_derive::napi;
use picom::host::{HostEvent, HostQueue};
use picom::{Options, Picom, Subject};

use errors::thrown;

/// What one wake hands to JavaScript at most, so that timers and sockets get their turn.
const EVENTS_PER_DRAIN: usize = 1024;
/// V8 has a limit for one string, and parsing one holds up the loop.
const BYTES_PER_DRAIN: usize = 4 << 20;

/// One instance, as JavaScript holds it.
#[napi]
pub struct Native {
    picom: Picom,
    queue: Arc<HostQueue>,
    targets: Vec<Subject>,
    events: VecDeque<HostEvent>,
    text: Vec<u8>,
    /// The caller's ids of the calls that handlers work on, by the low half of the call's number.
    marks: Vec<Option<Subject>>,
    unknown_options: Vec<String>,
}

#[napi]
impl Native {
    /// `options` is a JSON object. `wake` is called, without arguments, when there is something
    /// to drain; it does not keep the loop alive.
    #[napi(constructor)]
    pub fn new(name: String, options: String, wake: Function<'_, (), ()>) -> napi::Result<Native> {
        let (options, unknown_options) = Options::from_json(&options).map_err(thrown)?;
        let wake = wake
            .build_threadsafe_function::<()>()
            .weak::<true>()
            .callee_handled::<false>()
            .build_callback(|_| Ok(()))?;
        let queue = Arc::new(HostQueue::new(move || {
            // It fails only when the environment is going away, and the queue with it.
            wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }));
        let picom = Picom::with_host(name, options, queue.clone()).map_err(thrown)?;
        Ok(Native {
            picom,
            queue,
            targets: Vec::new(),
            events: VecDeque::new(),
            text: Vec::new(),
            marks: Vec::new(),
            unknown_options,
        })
    }

    /// The names in the options that are not options.
    #[napi]
    pub fn unknown_options(&self) -> Vec<String> {
        self.unknown_options.clone()
    }

    /// Checks a target and gives it a number. `first` forgets all earlier ones.
    #[napi]
    pub fn target(&mut self, target: String, first: bool) -> napi::Result<u32> {
        self.picom.check_target(&target).map_err(thrown)?;
        if first {
            self.targets.clear();
        }
        self.targets.push(target.into());
        Ok((self.targets.len() - 1) as u32)
    }

    /// Checks that this instance can expose methods.
    #[napi]
    pub fn check_exposable(&self) -> napi::Result<()> {
        self.picom.check_exposable().map_err(thrown)
    }

    /// Submits `count` records, whose texts are the lines of `text` (JSON has no line breaks).
    #[napi]
    pub fn submit(
        &mut self,
        numbers: Int32ArraySlice<'_>,
        count: u32,
        text: String,
    ) -> napi::Result<()> {
        let lines = records::Lines::new(Bytes::from(text.into_bytes()));
        let submissions = records::Submissions { numbers: &numbers, count: count as usize, lines };
        let (targets, marks) = (&self.targets, &mut self.marks);
        self.picom.submit(|batch| submissions.submit(batch, targets, marks)).map_err(thrown)
    }

    /// Takes what is ready: the number of records in `numbers[0]`, in `numbers[1]` whether
    /// there is more, the records behind them, and their texts as one JSON array, or `null` where
    /// there are none. Where there is more, no wake follows: Node runs a wake that is asked for
    /// in here without a turn of its loop in between.
    #[napi]
    pub fn drain<'env>(
        &mut self,
        env: &'env Env,
        mut numbers: Int32ArraySlice<'_>,
    ) -> napi::Result<Option<JsString<'env>>> {
        let more = self.queue.drain(EVENTS_PER_DRAIN, BYTES_PER_DRAIN, &mut self.events);
        // SAFETY: JavaScript waits in this call on the same thread, and the array is its own,
        // made for this and given to nobody else.
        let numbers = unsafe { numbers.as_mut() };
        self.text.clear();
        let mut drained = records::Drained { numbers, count: 0, text: &mut self.text };
        let mut expired = Vec::new();
        drained.put_all(&mut self.events, &mut self.marks, &mut expired);
        drained.finish(more);
        if !expired.is_empty() {
            // It fails only where nothing can be submitted; the events in hand are not to be lost.
            let _ = self.picom.submit(|batch| {
                for call in expired {
                    batch.reply(call, picom::engine::Outcome::Expired);
                }
            });
        }
        if self.text.is_empty() {
            return Ok(None);
        }
        // A string of one byte a character costs half of everything, and most texts can be one.
        if self.text.is_ascii() {
            env.create_string_latin1(&self.text).map(Some)
        } else {
            let text = std::str::from_utf8(&self.text).unwrap_or("[]");
            env.create_string(text).map(Some)
        }
    }

    /// The caller's id of a call that a handler works on.
    #[napi]
    pub fn call_id(&self, low: i32) -> Option<String> {
        self.marks.get(low as u32 as usize)?.as_ref().map(ToString::to_string)
    }
}

impl Drop for Native {
    /// The object was collected, or its environment ended, perhaps in the middle of calls.
    fn drop(&mut self) {
        self.picom.abandon();
    }
}
