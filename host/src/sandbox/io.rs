//! The streams and pollables of WASI. Those of wasmtime-wasi run a future for everything that could wait,
//! and panic where that is done on a thread that drives tasks of a runtime. A short turn of a lane is
//! handled on such a thread: a handler that prints would take the lane with it. Here such a call first
//! steps aside, as `block_in_place` does it. Nothing in the sandbox ever waits.

use tokio::runtime::{Handle, RuntimeFlavor};
use wasmtime::Result;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::bindings::sockets::network;
use wasmtime_wasi::p2::bindings::sync::io::{poll, streams};
use wasmtime_wasi::p2::bindings::sync::sockets::udp::{IpAddressFamily, UdpSocket};
use wasmtime_wasi::p2::bindings::sync::sockets::udp_create_socket;
use wasmtime_wasi::p2::{SocketError, SocketResult, StreamError, StreamResult};
use wasmtime_wasi::sockets::{WasiSocketsCtxView, WasiSocketsView};

use super::state::State;

type Pollable = Resource<poll::Pollable>;
type Input = Resource<streams::InputStream>;
type Output = Resource<streams::OutputStream>;

/// The resources of a call.
pub(super) struct Io<'a>(&'a mut ResourceTable);

/// Says that a state has [`Io`].
pub(super) struct HasIo;

impl HasData for HasIo {
    type Data<'a> = Io<'a>;
}

pub(super) fn io(state: &mut State) -> Io<'_> {
    Io(state.ctx().table)
}

/// Calls what may run a future.
fn aside<T>(call: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(call),
        _ => call(),
    }
}

impl poll::Host for Io<'_> {
    fn poll(&mut self, pollables: Vec<Pollable>) -> Result<Vec<u32>> {
        aside(|| poll::Host::poll(self.0, pollables))
    }
}

impl poll::HostPollable for Io<'_> {
    fn ready(&mut self, pollable: Pollable) -> Result<bool> {
        aside(|| poll::HostPollable::ready(self.0, pollable))
    }

    fn block(&mut self, pollable: Pollable) -> Result<()> {
        aside(|| poll::HostPollable::block(self.0, pollable))
    }

    fn drop(&mut self, pollable: Pollable) -> Result<()> {
        poll::HostPollable::drop(self.0, pollable)
    }
}

impl streams::Host for Io<'_> {
    fn convert_stream_error(&mut self, error: StreamError) -> Result<streams::StreamError> {
        streams::Host::convert_stream_error(self.0, error)
    }
}

impl streams::HostOutputStream for Io<'_> {
    fn drop(&mut self, stream: Output) -> Result<()> {
        aside(|| streams::HostOutputStream::drop(self.0, stream))
    }

    fn check_write(&mut self, stream: Output) -> StreamResult<u64> {
        streams::HostOutputStream::check_write(self.0, stream)
    }

    fn write(&mut self, stream: Output, bytes: Vec<u8>) -> StreamResult<()> {
        streams::HostOutputStream::write(self.0, stream, bytes)
    }

    fn blocking_write_and_flush(&mut self, stream: Output, bytes: Vec<u8>) -> StreamResult<()> {
        aside(|| streams::HostOutputStream::blocking_write_and_flush(self.0, stream, bytes))
    }

    fn blocking_write_zeroes_and_flush(&mut self, stream: Output, len: u64) -> StreamResult<()> {
        aside(|| streams::HostOutputStream::blocking_write_zeroes_and_flush(self.0, stream, len))
    }

    fn subscribe(&mut self, stream: Output) -> Result<Pollable> {
        streams::HostOutputStream::subscribe(self.0, stream)
    }

    fn write_zeroes(&mut self, stream: Output, len: u64) -> StreamResult<()> {
        streams::HostOutputStream::write_zeroes(self.0, stream, len)
    }

    fn flush(&mut self, stream: Output) -> StreamResult<()> {
        streams::HostOutputStream::flush(self.0, stream)
    }

    fn blocking_flush(&mut self, stream: Output) -> StreamResult<()> {
        aside(|| streams::HostOutputStream::blocking_flush(self.0, stream))
    }

    fn splice(&mut self, to: Output, from: Input, len: u64) -> StreamResult<u64> {
        streams::HostOutputStream::splice(self.0, to, from, len)
    }

    fn blocking_splice(&mut self, to: Output, from: Input, len: u64) -> StreamResult<u64> {
        aside(|| streams::HostOutputStream::blocking_splice(self.0, to, from, len))
    }
}

impl streams::HostInputStream for Io<'_> {
    fn drop(&mut self, stream: Input) -> Result<()> {
        aside(|| streams::HostInputStream::drop(self.0, stream))
    }

    fn read(&mut self, stream: Input, len: u64) -> StreamResult<Vec<u8>> {
        streams::HostInputStream::read(self.0, stream, len)
    }

    fn blocking_read(&mut self, stream: Input, len: u64) -> StreamResult<Vec<u8>> {
        aside(|| streams::HostInputStream::blocking_read(self.0, stream, len))
    }

    fn skip(&mut self, stream: Input, len: u64) -> StreamResult<u64> {
        streams::HostInputStream::skip(self.0, stream, len)
    }

    fn blocking_skip(&mut self, stream: Input, len: u64) -> StreamResult<u64> {
        aside(|| streams::HostInputStream::blocking_skip(self.0, stream, len))
    }

    fn subscribe(&mut self, stream: Input) -> Result<Pollable> {
        streams::HostInputStream::subscribe(self.0, stream)
    }
}

/// Sockets: each is refused, but first asked for.
pub(super) struct Sockets<'a>(WasiSocketsCtxView<'a>);

/// Says that a state has [`Sockets`].
pub(super) struct HasSockets;

impl HasData for HasSockets {
    type Data<'a> = Sockets<'a>;
}

pub(super) fn sockets(state: &mut State) -> Sockets<'_> {
    Sockets(state.sockets())
}

impl udp_create_socket::Host for Sockets<'_> {
    fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        aside(|| udp_create_socket::Host::create_udp_socket(&mut self.0, family))
    }
}

impl network::Host for Sockets<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> Result<network::ErrorCode> {
        network::Host::convert_error_code(&mut self.0, error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> Result<Option<network::ErrorCode>> {
        network::Host::network_error_code(&mut self.0, error)
    }
}

impl network::HostNetwork for Sockets<'_> {
    fn drop(&mut self, network: Resource<network::Network>) -> Result<()> {
        network::HostNetwork::drop(&mut self.0, network)
    }
}
