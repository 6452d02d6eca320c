//! One run: messages go out, acknowledgements and outputs come in, until the handler has nothing left.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;

use super::outcome::Outcome;
use super::{Options, Template};
use crate::model::InboxKey;
use crate::stream::{
    Event, Fence, Nats, NatsOptions, Output, Publish, Publisher, outputs, stream_of, waiting,
};

/// Messages on their way to the stream at most.
const WINDOW: u64 = 4_096;
/// How long nothing may happen before the run is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long outputs are waited for when the handler has nothing left.
const LAST: Duration = Duration::from_secs(2);

type Failed = Box<dyn std::error::Error>;

struct Run<'a> {
    template: &'a Template,
    options: &'a Options,
    publisher: Publisher,
    connection: Option<u64>,
    published: u64,
    stored: u64,
    /// Messages of others that waited before the first one.
    before: u64,
    handled: u64,
    started: Option<Instant>,
    handled_at: Option<Instant>,
    /// When each message was published, by the start of the ids of what it makes the handler send.
    sent: HashMap<String, Instant>,
    took: Vec<Duration>,
    moved: Instant,
    bar: ProgressBar,
}

/// Publishes and follows.
pub(super) async fn run(
    nats: &Nats,
    connect: NatsOptions,
    template: &Template,
    options: &Options,
) -> Result<Outcome, Failed> {
    let stream = stream_of(nats, &template.fill(&template.subject, 0)).await?;
    let before = waiting(nats, &stream, &options.handler).await?;
    let mut arriving = match &options.output {
        Some(subject) => outputs(nats, subject).await?,
        // Nothing ever comes, and the sender stays.
        None => mpsc::unbounded_channel().1,
    };
    let (publisher, mut events) = Publisher::start(connect, Fence::open())?;
    let mut run = Run {
        template,
        options,
        publisher,
        connection: None,
        published: 0,
        stored: 0,
        before,
        handled: 0,
        started: None,
        handled_at: None,
        sent: HashMap::new(),
        took: Vec::new(),
        moved: Instant::now(),
        bar: bar(options),
    };
    let mut look = tokio::time::interval(Duration::from_millis(50));
    let mut send = tokio::time::interval(Duration::from_millis(2));
    while !run.over() {
        tokio::select! {
            Some(event) = events.recv() => {
                run.happened(event)?;
                while let Ok(event) = events.try_recv() {
                    run.happened(event)?;
                }
                run.publish();
            }
            Some(output) = arriving.recv() => run.came_out(&output),
            _ = send.tick(), if run.published < options.count => run.publish(),
            _ = look.tick() => run.looked(waiting(nats, &stream, &options.handler).await?)?,
        }
    }
    run.bar.finish_and_clear();
    Ok(run.outcome())
}

impl Run<'_> {
    /// Whether all is handled, and all outputs are there or waited for long enough.
    fn over(&self) -> bool {
        let outputs_done = self.options.output.is_none() || self.sent.is_empty();
        self.handled_at.is_some_and(|at| outputs_done || at.elapsed() > LAST)
    }

    fn publish(&mut self) {
        let Some(connection) = self.connection else { return };
        let started = *self.started.get_or_insert_with(Instant::now);
        let due = match self.options.rate {
            Some(rate) => ((started.elapsed().as_secs_f64() * rate) as u64).min(self.options.count),
            None => self.options.count,
        };
        while self.published < due && self.published - self.stored < WINDOW {
            let n = self.published;
            let id = self.template.id(n);
            if self.options.output.is_some() {
                let key = InboxKey::new(&self.options.handler, &id).to_string();
                self.sent.insert(key, Instant::now());
            }
            self.publisher.send(Publish {
                connection,
                token: Some(n + 1),
                id,
                subject: self.template.fill(&self.template.subject, n),
                headers: String::new(),
                payload: self.template.fill(&self.template.payload, n).into(),
            });
            self.published += 1;
        }
    }

    fn happened(&mut self, event: Event) -> Result<(), Failed> {
        match event {
            Event::Up { connection, .. } => self.connection = Some(connection),
            Event::Stored { .. } => {
                self.stored += 1;
                self.moved = Instant::now();
            }
            Event::Refused { token, refusal } => {
                let subject = self.template.fill(&self.template.subject, token - 1);
                return Err(format!(
                    "message {token} to {subject} was refused: {refusal:?}; a stream has to take \
                     the subject, and this user has to be allowed to publish to it"
                )
                .into());
            }
            Event::Down { why, .. } => {
                let published = self.published;
                return Err(format!(
                    "the connection to NATS broke after {published} messages: {why}; what became \
                     of the last ones is not known, start again when the server is back"
                )
                .into());
            }
        }
        Ok(())
    }

    fn came_out(&mut self, output: &Output) {
        // What handling a message sends has ids that begin with the message's inbox key.
        let key = output.id.split('-').next().unwrap_or_default();
        if let Some(sent) = self.sent.remove(key) {
            self.took.push(output.at.saturating_duration_since(sent));
            self.moved = Instant::now();
        }
    }

    /// Takes in how many messages the handler has left.
    fn looked(&mut self, left: u64) -> Result<(), Failed> {
        let handled = (self.before + self.stored).saturating_sub(left).min(self.stored);
        if handled > self.handled {
            self.handled = handled;
            self.moved = Instant::now();
        }
        self.bar.set_position(self.handled);
        self.bar.set_message(format!("{} published, {} out", self.stored, self.took.len()));
        if left == 0 && self.stored == self.options.count && self.handled_at.is_none() {
            self.handled_at = Some(Instant::now());
        }
        let slow = self
            .options
            .rate
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64((2.0 / rate).min(3_600.0)));
        if self.handled_at.is_none() && self.moved.elapsed() > PATIENCE + slow {
            let handler = &self.options.handler;
            return Err(format!(
                "nothing has moved for {} s: {} of {} messages are stored and {left} are not \
                 handled by {handler}; look at its log, and at tribox.parked",
                PATIENCE.as_secs(),
                self.stored,
                self.options.count
            )
            .into());
        }
        Ok(())
    }

    fn outcome(self) -> Outcome {
        let seconds = match (self.started, self.handled_at) {
            (Some(from), Some(until)) => (until - from).as_secs_f64(),
            _ => f64::NAN,
        };
        let asked = self.options.output.is_some();
        Outcome::new(self.stored, seconds, self.took, asked)
    }
}

fn bar(options: &Options) -> ProgressBar {
    let bar = ProgressBar::new(options.count);
    if options.json || !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = "{bar:30} {pos}/{len} handled, {per_sec}, {msg}";
    bar.set_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar
}
