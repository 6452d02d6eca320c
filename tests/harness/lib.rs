//! What the tests, the demo and the benchmark stand on: private servers, the real program as a
//! child process, and clients that look from outside.

pub mod programs;
