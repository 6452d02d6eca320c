//! What goes wrong, when, and for how long: one run of the world from its beginning to its end.

use std::time::Duration;

use tribox::sandbox::Guest;

use crate::check;
use crate::input::{self, Theme};
use crate::left::left;
use crate::node::Process;
use crate::restore::Restore;
use crate::seat::Seat;
use crate::world::{Inner, Rule, Tally, World, elapsed};

const NODES: [&str; 3] = ["north", "east", "west"];

/// How long an end in order may take: milliseconds.
const STOPS: i64 = 31_000;

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// Faults to the end; nothing wrong may have happened.
    Safety,
    /// The faults end, and everything drains within a bound.
    Liveness,
}

/// What came of a run.
pub struct Outcome {
    pub violations: Vec<String>,
    pub tally: Tally,
    pub digest: u64,
    pub messages: usize,
}

/// What lasts for a while.
#[derive(Default)]
struct Spells {
    postgres: Option<i64>,
    nats: Option<i64>,
    broken: Option<i64>,
    full: Option<i64>,
    lines: Vec<(&'static str, i64)>,
}

struct Run {
    world: World,
    aim: Aim,
    seats: Vec<Seat>,
    spells: Spells,
    /// When the faults end.
    until: i64,
    /// When the streams that come late are made.
    late: Option<i64>,
    /// A stream is full now and then.
    fills: bool,
    /// Streams lose their end now and then.
    loses: bool,
    restore: Option<Restore>,
    theme: Theme,
    /// In how many tenths of the run all input arrives.
    tenths: i64,
    told: usize,
    messages: usize,
}

/// Runs the world of a seed.
pub async fn run(
    seed: u64,
    shown: bool,
    without: Option<Rule>,
    component: Option<Guest>,
) -> Outcome {
    let world = World::new(seed, shown, without, component);
    let aim = if seed.is_multiple_of(2) { Aim::Safety } else { Aim::Liveness };
    let mut run = Run::begin(world.clone(), aim, seed);
    run.under_faults().await;
    let mut violations = Vec::new();
    if aim == Aim::Liveness {
        run.make_peace();
        violations.extend(run.drain().await);
    }
    let told = run.told;
    let complete = aim == Aim::Liveness && violations.is_empty();
    for seat in &mut run.seats {
        seat.process = None;
    }
    let mut world = world.look();
    let Run { late, fills, .. } = run;
    if shown {
        world.database.history.iter().for_each(|done| println!("{done:?}"));
        println!("{:#?}", world.database.writers);
    }
    let of = check::Of { complete, late: late.is_some(), fills };
    violations.extend(check::all(&mut world, &of));
    let digest = world.trace.digest();
    Outcome { violations, tally: world.tally.clone(), digest, messages: told }
}

impl Run {
    fn begin(world: World, aim: Aim, seed: u64) -> Run {
        let mut look = world.look();
        let chance = &mut look.chance;
        let rate = [0.0, 0.005, 0.03, 0.1][chance.usize(0..4)];
        let window = [1_000, 65_000, 120_000][chance.usize(0..3)];
        let nodes = chance.usize(1..=3);
        let messages = chance.usize(20..=90);
        let until = chance.i64(20_000..=150_000);
        let tenths = [1, 4, 7][chance.usize(0..3)];
        let themes = [Theme::Mixed, Theme::Lists, Theme::Appends, Theme::Failures];
        let theme = themes[chance.usize(0..4)];
        let fills = chance.u8(0..3) == 0;
        let loses = chance.u8(0..4) == 0;
        let late = (chance.u8(0..4) == 0).then(|| chance.i64(5_000..=60_000));
        let skews: Vec<i64> = NODES.iter().map(|_| chance.i64(-20_000..=20_000)).collect();
        look.rate = rate;
        for (node, skew) in NODES.into_iter().zip(skews) {
            look.line(node).skew = skew;
        }
        look.broker.create("IN", &["in.>"], 120_000);
        look.broker.create("OUT", &["out.>", "later.>"], window);
        look.broker.create("NEXT", &["next.>"], window);
        if late.is_none() {
            look.broker.create("LATE", &["late.>"], window);
        }
        drop(look);
        let mut seats: Vec<Seat> = NODES[..nodes].iter().map(|name| Seat::of(name)).collect();
        seats.iter_mut().for_each(|seat| seat.start(&world));
        let spells = Spells::default();
        Run {
            world,
            aim,
            seats,
            spells,
            until,
            late,
            fills,
            loses,
            restore: Restore::of(seed, until).filter(|_| !loses),
            theme,
            tenths,
            told: 0,
            messages,
        }
    }

    /// Messages come and things go wrong, until it is enough.
    async fn under_faults(&mut self) {
        let mut next_fault = 0;
        while elapsed() < self.until {
            self.tell_some();
            self.world.look().tick();
            self.go_back();
            if elapsed() >= next_fault {
                self.strike().await;
                next_fault = elapsed() + self.world.look().chance.i64(300..=12_000);
            }
            self.end_spells();
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        while self.restore.as_ref().is_some_and(Restore::waits) {
            tokio::time::sleep(Duration::from_millis(250)).await;
            self.go_back();
        }
        while self.aim == Aim::Liveness && self.told < self.messages {
            self.tell();
        }
    }

    fn go_back(&mut self) {
        let restore = self.restore.take();
        self.restore = restore.and_then(|restore| restore.go_on(&self.world, &mut self.seats));
    }

    /// Input arrives over the first part of the run.
    fn tell_some(&mut self) {
        let due = self.messages * usize::try_from(elapsed()).unwrap_or_default() * 10
            / usize::try_from(self.until * self.tenths).unwrap_or(1);
        while self.told < due.min(self.messages) {
            self.tell();
        }
    }

    fn tell(&mut self) {
        input::tell(&mut self.world.look(), self.told, self.theme, !self.loses);
        self.told += 1;
    }

    /// One thing goes wrong.
    async fn strike(&mut self) {
        let mut world = self.world.look();
        let at = world.chance.usize(0..self.seats.len());
        let kind = world.chance.u8(0..15);
        let long = world.chance.u8(0..8) == 0;
        let spell = elapsed() + world.chance.i64(100..=if long { 100_000 } else { 12_000 });
        let name = self.seats[at].name;
        let seat = &mut self.seats[at];
        let running = seat.process.is_some();
        match kind {
            0..=2 if running => {
                world.fault("node: killed", name);
                drop(world);
                seat.process = None;
                seat.frozen_until = None;
                seat.starts_at = Some(elapsed().midpoint(spell));
            }
            3..=4 if running => {
                world.fault("node: frozen", name);
                if let Some(process) = &seat.process {
                    process.freeze(true);
                    seat.frozen_until = Some(spell);
                }
            }
            5 if running && seat.frozen_until.is_none() => {
                world.fault("node: stopped in order", name);
                drop(world);
                if let Some(process) = seat.process.take() {
                    tokio::spawn(process.stop());
                    // Two processes never have one name at a time.
                    seat.stopped_by = elapsed() + STOPS;
                    seat.starts_at = Some(seat.stopped_by.max(spell));
                }
            }
            6 => {
                world.fault("node: cut off from Postgres", name);
                world.line(name).no_postgres = true;
                self.spells.lines.push((name, spell));
            }
            7 => {
                world.fault("node: cut off from NATS", name);
                world.line(name).no_nats = true;
                world.line(name).connection += 1;
                self.spells.lines.push((name, spell));
            }
            8..=9 => {
                world.fault("nats: connection broken", name);
                world.line(name).connection += 1;
            }
            _ => {
                drop(world);
                self.strike_all(kind, spell);
            }
        }
    }

    /// Something goes wrong that all nodes meet.
    fn strike_all(&mut self, kind: u8, spell: i64) {
        let mut world = self.world.look();
        match kind {
            10 => {
                world.fault("postgres: down", "");
                world.postgres_starts += 1;
                world.postgres_down = true;
                self.spells.postgres = Some(spell);
            }
            11 => {
                world.fault("nats: down", "");
                world.nats_down = true;
                NODES.iter().for_each(|node| world.line(node).connection += 1);
                self.spells.nats = Some(spell);
            }
            12 => {
                world.fault("handler: broken", "");
                world.broken = true;
                self.spells.broken = Some(spell);
            }
            13 if self.loses => {
                let name = ["IN", "OUT", "NEXT"][world.chance.usize(0..3)];
                let count = world.chance.usize(1..=8);
                world.fault("nats: end of a stream lost", name);
                if let Some(stream) = world.broker.stream(name) {
                    stream.lose_end(count);
                }
                world.nats_starts += 1;
                NODES.iter().for_each(|node| world.line(node).connection += 1);
            }
            13 => {}
            _ if !self.fills => {}
            _ => {
                world.fault("nats: stream full", "");
                if let Some(stream) = world.broker.stream("OUT") {
                    stream.full = true;
                }
                self.spells.full = Some(spell);
            }
        }
    }

    /// What has lasted long enough ends.
    fn end_spells(&mut self) {
        let now = elapsed();
        let over = |spell: &mut Option<i64>| spell.take_if(|until| *until <= now).is_some();
        let mut world = self.world.look();
        if over(&mut self.spells.postgres) {
            world.postgres_down = false;
        }
        if over(&mut self.spells.nats) {
            world.nats_down = false;
        }
        if over(&mut self.spells.broken) {
            world.broken = false;
        }
        if over(&mut self.spells.full)
            && let Some(stream) = world.broker.stream("OUT")
        {
            stream.full = false;
        }
        self.spells.lines.retain(|(node, until)| {
            let line = world.line(node);
            if *until <= now {
                line.no_postgres = false;
                line.no_nats = false;
            }
            *until > now
        });
        if self.late.is_some_and(|at| at <= now) && world.broker.stream("LATE").is_none() {
            world.broker.create("LATE", &["late.>"], 120_000);
        }
        drop(world);
        for seat in &mut self.seats {
            if over(&mut seat.frozen_until)
                && let Some(process) = &seat.process
            {
                process.freeze(false);
            }
            if over(&mut seat.starts_at) && seat.process.is_none() {
                seat.start(&self.world);
            }
            // Whoever found its name taken is started again, as an operator would.
            if seat.process.as_mut().is_some_and(Process::ended) {
                seat.process = None;
                seat.starts_at = Some(now + 1_000);
            }
        }
    }

    /// The faults end. One node may stay what it is: dead, or frozen.
    fn make_peace(&mut self) {
        let spared = {
            let mut world = self.world.look();
            world.rate = 0.0;
            world.trace.note("peace");
            let all = self.seats.len();
            (all > 1 && world.chance.bool()).then(|| world.chance.usize(0..all))
        };
        let spell = &mut self.spells;
        for until in [&mut spell.postgres, &mut spell.nats, &mut spell.broken, &mut spell.full] {
            *until = until.map(|_| 0);
        }
        self.spells.lines.iter_mut().for_each(|(_, until)| *until = 0);
        self.late = self.late.map(|_| 0);
        for (at, seat) in self.seats.iter_mut().enumerate() {
            if Some(at) == spared {
                seat.starts_at = None;
            } else {
                seat.frozen_until = seat.frozen_until.map(|_| 0);
                if seat.process.is_none() {
                    seat.starts_at = Some(seat.stopped_by);
                }
            }
        }
        self.end_spells();
    }

    /// Waits until nothing is left to do; what is stuck if that takes too long.
    async fn drain(&mut self) -> Option<String> {
        let bound = elapsed() + 1_800_000;
        loop {
            let left = left(&mut self.world.look());
            let left = left?;
            if elapsed() > bound {
                return Some(format!("stuck: {left}"));
            }
            self.world.look().tick();
            self.end_spells();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

impl Inner {
    fn fault(&mut self, kind: &'static str, whom: &str) {
        self.tally.count(kind);
        self.trace.note(&format!("{kind} {whom}"));
    }
}
