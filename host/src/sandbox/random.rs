//! Random numbers that repeat: seeded by handler and message id, so that a message handled again
//! sees the same ones. Each of WASI's three sources is a ChaCha stream of its own.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use super::state::{State, Stop};

/// Bytes that one call may ask for; a guest that needs more asks again, and pays fuel for it.
const MAX_BYTES: u64 = 1 << 20;

/// Made only as far as a guest asks: most never do.
#[derive(Default)]
pub(super) struct Randomness {
    secure: Option<ChaCha12Rng>,
    insecure: Option<ChaCha12Rng>,
}

fn generator(handler: &str, message_id: &str, stream: u64) -> ChaCha12Rng {
    let mut hash = Sha256::new();
    hash.update(handler.as_bytes());
    hash.update([0]);
    hash.update(message_id.as_bytes());
    let mut generator = ChaCha12Rng::from_seed(hash.finalize().into());
    generator.set_stream(stream);
    generator
}

impl State {
    fn secure(&mut self) -> &mut ChaCha12Rng {
        let origin = &self.origin;
        self.randomness
            .secure
            .get_or_insert_with(|| generator(&origin.handler, &origin.message_id, 0))
    }

    fn insecure(&mut self) -> &mut ChaCha12Rng {
        let origin = &self.origin;
        self.randomness
            .insecure
            .get_or_insert_with(|| generator(&origin.handler, &origin.message_id, 1))
    }
}

fn bytes(generator: &mut ChaCha12Rng, length: u64) -> wasmtime::Result<Vec<u8>> {
    if length > MAX_BYTES {
        return Err(Stop::contract(format!(
            "the guest asked for {length} random bytes at once; at most {MAX_BYTES} are given"
        )));
    }
    let mut bytes = vec![0; usize::try_from(length)?];
    generator.fill_bytes(&mut bytes);
    Ok(bytes)
}

impl random::Host for State {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(self.secure(), length)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.secure().next_u64())
    }
}

impl insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(self.insecure(), length)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.insecure().next_u64())
    }
}

impl insecure_seed::Host for State {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        let mut generator = generator(&self.origin.handler, &self.origin.message_id, 2);
        Ok((generator.next_u64(), generator.next_u64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let mut first = generator("accounts", "m-1", 0);
        let values = [first.next_u64(), first.next_u64()];
        let mut again = generator("accounts", "m-1", 0);
        assert_eq!(values, [again.next_u64(), again.next_u64()]);
        assert_ne!(values[0], generator("accounts", "m-1", 1).next_u64());
        assert_ne!(values[0], generator("accounts", "m-2", 0).next_u64());
        assert_ne!(values[0], generator("orders", "m-1", 0).next_u64());
    }
}
