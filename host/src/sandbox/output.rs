//! What a guest prints: line by line into tracing events, so much per message and no more, and the
//! end of stderr kept for the text of a trap.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::state::Origin;

/// Lines per message that become events; what comes after is counted only.
const MAX_LINES: usize = 200;
/// Bytes of all lines of a message together.
const MAX_BYTES: usize = 64 << 10;
/// Bytes after which a line without an end is cut into two.
const MAX_LINE: usize = 4 << 10;
/// Last lines of stderr that are kept for the text of a trap.
const TAIL: usize = 8;
/// Bytes that a stream takes at once.
const PERMIT: usize = 64 << 10;

#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Both streams of one call.
pub(super) struct Output {
    origin: Origin,
    /// The unfinished line of each stream.
    partial: [Vec<u8>; 2],
    lines: usize,
    bytes: usize,
    tail: VecDeque<String>,
}

impl Output {
    pub(super) fn new(origin: Origin) -> Output {
        let (partial, tail) = ([Vec::new(), Vec::new()], VecDeque::new());
        Output { origin, partial, lines: 0, bytes: 0, tail }
    }

    fn write(&mut self, stream: Stream, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = MAX_LINE - self.partial[stream as usize].len();
            let window = &bytes[..bytes.len().min(room)];
            let end = window.iter().position(|b| *b == b'\n');
            let taken = end.map_or(window.len(), |end| end + 1);
            self.partial[stream as usize].extend_from_slice(&window[..end.unwrap_or(taken)]);
            bytes = &bytes[taken..];
            if end.is_some() || self.partial[stream as usize].len() == MAX_LINE {
                self.end_line(stream);
            }
        }
    }

    fn end_line(&mut self, stream: Stream) {
        let partial = &mut self.partial[stream as usize];
        // Control characters would let a guest write to the terminal of whoever reads the log.
        let line: String = String::from_utf8_lossy(partial)
            .trim_end_matches('\r')
            .chars()
            .map(|c| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c })
            .collect();
        partial.clear();
        if line.is_empty() {
            return;
        }
        self.lines += 1;
        self.bytes += line.len();
        if self.lines <= MAX_LINES && self.bytes <= MAX_BYTES {
            let Origin { handler, message_id } = &self.origin;
            let stream = stream.name();
            tracing::info!(target: "guest", %handler, %message_id, stream, "{line}");
        }
        if matches!(stream, Stream::Stderr) {
            if self.tail.len() == TAIL {
                self.tail.pop_front();
            }
            self.tail.push_back(line);
        }
    }

    /// Ends unfinished lines, and says so where something was cut. Returns the last lines of
    /// stderr.
    pub(super) fn finish(&mut self) -> &VecDeque<String> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.partial[stream as usize].is_empty() {
                self.end_line(stream);
            }
        }
        if self.lines > MAX_LINES || self.bytes > MAX_BYTES {
            let Origin { handler, message_id } = &self.origin;
            let (lines, bytes) = (self.lines, self.bytes);
            tracing::warn!(
                target: "guest", %handler, %message_id,
                "the guest printed {lines} lines of {bytes} bytes; the rest was cut after \
                 {MAX_LINES} lines or {MAX_BYTES} bytes"
            );
        }
        &self.tail
    }
}

/// One of the two streams as WASI sees it. It is always ready.
pub(super) struct Pipe {
    pub(super) output: Arc<Mutex<Output>>,
    pub(super) stream: Stream,
}

impl IsTerminal for Pipe {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Pipe {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for this one, and it is not linked.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Pipe { output: Arc::clone(&self.output), stream: self.stream })
    }
}

#[async_trait]
impl Pollable for Pipe {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Pipe {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> Output {
        Output::new(Origin { handler: "chaos".into(), message_id: "m-1".into() })
    }

    #[test]
    fn stderr_is_kept_line_by_line_and_cleaned() {
        let mut output = output();
        output.write(Stream::Stderr, b"panicked at x:\nno \x1b[31mroom");
        output.write(Stream::Stdout, b"other\n");
        output.write(Stream::Stderr, b" left\r\nlast");
        let tail: Vec<_> = output.finish().iter().collect();
        assert_eq!(tail, ["panicked at x:", "no \u{fffd}[31mroom left", "last"]);
    }

    #[test]
    fn a_flood_is_bounded() {
        let mut output = output();
        for _ in 0..100 {
            output.write(Stream::Stderr, &[b'x'; 100_000]);
        }
        let tail = output.finish();
        assert!(tail.len() <= TAIL && tail.iter().all(|line| line.len() <= MAX_LINE));
        assert_eq!(output.bytes, 10_000_000);
    }
}
