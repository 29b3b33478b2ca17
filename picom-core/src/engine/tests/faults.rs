//! Random schedules of everything that can happen, against what must always hold.
//!
//! `PICOM_SCHEDULES` multiplies their number; `PICOM_SEED` runs one of them alone.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use super::world::{ms, settings, Handlers, World, LATE};
use crate::engine::{Denied, Settings};
use crate::error::ErrorKind;

const SCHEDULES: u64 = 4_000;
const STEPS: usize = 120;
/// What calls must have ended with, somewhere in all those schedules.
const OUTCOMES: [ErrorKind; 7] = [
    ErrorKind::MethodNotFound,
    ErrorKind::TimedOut,
    ErrorKind::Cancelled,
    ErrorKind::NoResponder,
    ErrorKind::Disconnected,
    ErrorKind::PermissionDenied,
    ErrorKind::Closed,
];
const TARGETS: [&str; 5] = ["a.m", "a.m", "b.m", "a.unknown", "nobody.m"];

struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % most
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What a call was promised.
struct Promise {
    node: usize,
    deadline: Option<Instant>,
    /// A request, which can be cancelled.
    request: bool,
}

struct Schedule {
    world: World,
    random: Random,
    promises: BTreeMap<u32, Promise>,
}

#[test]
fn the_contract_holds_in_every_schedule() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("PICOM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + SCHEDULES * number("PICOM_SCHEDULES").unwrap_or(1),
    };
    let one = seeds.end - seeds.start == 1;
    let mut seen = BTreeSet::new();
    for seed in seeds {
        match catch_unwind(|| Schedule::new(seed).run()) {
            Ok(outcomes) => seen.extend(outcomes),
            Err(panic) => {
                eprintln!("the schedule that failed: PICOM_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    // Schedules that never get anywhere prove nothing.
    for kind in OUTCOMES {
        assert!(one || seen.contains(kind.name()), "no call ended as {}", kind.name());
    }
}

impl Schedule {
    fn new(seed: u64) -> Schedule {
        let mut schedule = Schedule {
            world: World::new(),
            // Neighbouring seeds have to begin apart.
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            promises: BTreeMap::new(),
        };
        for (service, count) in [("a", 2), ("b", 1), ("", 2)] {
            for _ in 0..count {
                schedule.add(service);
            }
        }
        schedule
    }

    fn add(&mut self, service: &str) {
        let name = format!("i{}", self.world.nodes.len());
        let timeout = [Some(ms(40)), Some(ms(300)), Some(ms(5_000)), None];
        let node = self.world.add(Settings {
            timeout: timeout[self.random.below(4) as usize],
            retries: [0, 1, 3, 20][self.random.below(4) as usize],
            close_timeout: ms([0, 50, 2_000][self.random.below(3) as usize]),
            ..settings(service, &name)
        });
        if !self.random.one_in(3) {
            self.world.connect(node);
        }
        if !service.is_empty() {
            self.expose(node);
        }
    }

    fn promise(&mut self, id: u32, node: usize, timeout: Option<Duration>, request: bool) {
        let deadline = timeout.map(|timeout| self.world.now + timeout);
        self.promises.insert(id, Promise { node, deadline, request });
    }

    fn expose(&mut self, node: usize) {
        let timeout = self.world.nodes[node].engine.settings.timeout;
        let id = self.world.expose(node, &["m"]);
        self.promise(id, node, timeout, false);
    }

    fn call(&mut self, node: usize) {
        let target = TARGETS[self.random.below(TARGETS.len() as u64) as usize];
        let default = self.world.nodes[node].engine.settings.timeout;
        if self.random.one_in(4) {
            let id = self.world.publish(node, target, "1");
            return self.promise(id, node, default, false);
        }
        let own = ms([0, 1, 7, 90, 1_000][self.random.below(5) as usize]);
        let id = self.world.request_within(node, target, "{\"a\":1}", own);
        self.promise(id, node, Some(own).filter(|own| !own.is_zero()).or(default), true);
    }

    fn cancel(&mut self) {
        let open: Vec<u32> = self
            .promises
            .iter()
            .filter(|(id, promise)| promise.request && self.world.is_open(**id))
            .map(|(id, _)| *id)
            .collect();
        if !open.is_empty() {
            let id = open[self.random.below(open.len() as u64) as usize];
            self.world.cancel(self.promises[&id].node, id);
            self.world.err(id, ErrorKind::Cancelled);
        }
    }

    fn close(&mut self, node: usize) {
        if !self.world.nodes[node].alive {
            return;
        }
        let calls = &self.world.nodes[node].calls;
        let from = calls.last().map(|call| call.id).filter(|_| self.random.one_in(3));
        let close_timeout = self.world.nodes[node].engine.settings.close_timeout;
        let id = self.world.close(node, from);
        self.promise(id, node, Some(close_timeout), false);
    }

    fn deny(&mut self, node: usize) {
        let subject = ["a.>", "b.m", "_INBOX.>"][self.random.below(3) as usize].to_owned();
        let denied = match self.random.below(2) {
            0 => Denied::Publish(subject),
            _ => Denied::Subscribe(subject),
        };
        self.world.server.denied.push((node, denied));
    }

    fn step(&mut self) {
        let node = self.random.below(self.world.nodes.len() as u64) as usize;
        if !self.world.nodes[node].alive {
            return;
        }
        match self.random.below(100) {
            0..50 => self.call(node),
            50..58 => self.cancel(),
            58..64 => self.world.disconnect(node),
            64..74 => self.world.connect(node),
            74..77 => self.world.last_words = self.random.one_in(2),
            77..82 => self.world.latency = ms([0, 1, 3, 30][self.random.below(4) as usize]),
            82..88 => {
                let time = ms(self.random.below(60));
                let handlers =
                    if self.random.one_in(3) { Handlers::Hold } else { Handlers::Echo(time) };
                self.world.nodes[node].handlers = handlers;
            }
            88 => self.lose(node),
            89 => self.close(node),
            90 => self.deny(node),
            91 => self.world.server.denied.clear(),
            92 => {
                let service = ["a", "b", ""][self.random.below(3) as usize];
                self.add(service);
            }
            93 if self.world.nodes[node].engine.settings.service == "a" => self.expose(node),
            _ => {}
        }
        let pause = [0, 0, 0, 1, 5, 40][self.random.below(6) as usize];
        self.world.run(ms(pause));
    }

    /// An instance that is lost takes its own calls with it.
    fn lose(&mut self, node: usize) {
        self.world.lose(node);
        self.promises.retain(|id, promise| promise.node != node || !self.world.is_open(*id));
    }

    fn run(mut self) -> Vec<&'static str> {
        for _ in 0..STEPS {
            self.step();
            self.check_limits();
        }
        // Everything with a deadline settles by itself, and everything else when it is closed.
        self.world.run(ms(6_000));
        for node in 0..self.world.nodes.len() {
            self.close(node);
        }
        self.world.run(ms(6_000));
        self.check_settlements();
        self.check_handlers();
        for node in 0..self.world.nodes.len() {
            // A node that was lost has no engine to speak of.
            if self.world.nodes[node].engine.out.closed {
                self.world.assert_idle(node);
            }
        }
        let errors = self.world.settled.values().filter_map(|s| s.result.as_ref().err());
        errors.map(|error| error.kind().name()).collect()
    }

    fn check_limits(&self) {
        for node in self.world.nodes.iter().filter(|node| node.alive) {
            let engine = &node.engine;
            let live = engine.slots.len() + engine.queued_replies;
            assert!(engine.queue.len() <= 2 * live + 66, "the queue grows");
            assert!(engine.by_key.len() <= engine.slots.len(), "keys are left behind");
        }
    }

    fn check_settlements(&self) {
        for (id, promise) in &self.promises {
            let Some(settled) = self.world.settled.get(id) else {
                panic!("call {id} has never settled");
            };
            if let Some(deadline) = promise.deadline {
                assert!(
                    settled.at <= deadline + LATE,
                    "call {id} settled {:?} after its deadline, with {:?}",
                    settled.at - deadline,
                    settled.result
                );
            }
            let Err(error) = &settled.result else { continue };
            if error.kind() == ErrorKind::TimedOut {
                let due = promise.deadline.expect("only what has a deadline times out");
                assert!(settled.at >= due, "call {id} timed out before its deadline");
            }
        }
    }

    /// A handler ran at most once for each request, although calls were tried again.
    fn check_handlers(&self) {
        let mut ran: BTreeMap<&str, u32> = BTreeMap::new();
        for node in &self.world.nodes {
            for mark in node.calls.iter().filter_map(|call| call.mark.as_ref()) {
                *ran.entry(mark.as_ref()).or_default() += 1;
            }
        }
        for (mark, times) in ran {
            assert_eq!(times, 1, "{mark} ran {times} times");
        }
    }
}
