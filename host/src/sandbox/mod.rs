//! The sandbox: runs a guest on one message, deterministically, within limits, with no effect but
//! what it returns. The only room that speaks wasmtime.
