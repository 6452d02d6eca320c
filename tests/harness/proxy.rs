//! A TCP proxy that stands before a server and breaks connections the way networks do.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Forwards to one server. It ends, and cuts all connections, when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    _tasks: JoinSet<()>,
}

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Weather {
    /// Connections are accepted.
    open: bool,
    /// Bytes of the clients pass; otherwise they wait, and nobody is told.
    asking: bool,
    /// The same for bytes of the server.
    answering: bool,
    /// What each chunk of bytes waits before it is passed on, each way.
    delay: Duration,
    /// Connections made before it changed are gone.
    generation: u64,
    /// Of connections made before it changed, servers hear that the client has ended, and no more.
    asked: u64,
    /// The same for what clients hear of the server.
    answered: u64,
    /// The loopback port of the server.
    port: u16,
}

impl FaultProxy {
    /// Starts in fair weather before the server on loopback port `port`.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(port: u16) -> Result<Self> {
        let socket = bound((Ipv4Addr::LOCALHOST, 0).into()).context("failed to listen")?;
        let address = socket.local_addr()?;
        let keeper = bound(address).ok();
        let listener = socket.listen(BACKLOG)?;
        let fair = Weather {
            open: true,
            asking: true,
            answering: true,
            delay: Duration::ZERO,
            generation: 0,
            asked: 0,
            answered: 0,
            port,
        };
        let (weather, seen) = watch::channel(fair);
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, keeper, seen));
        Ok(FaultProxy { address, weather, _tasks: tasks })
    }

    /// Whether there are connections through it; after [`Self::refuse`], whether one is not gone yet.
    pub fn connected(&self) -> bool {
        // Each connection looks at the weather, and so does whoever listens.
        self.weather.receiver_count() > 1
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `url` with this proxy in place of its host and port.
    pub fn instead_of(&self, url: &str) -> String {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (user, rest) = rest.split_once('@').map_or(("", rest), |(user, rest)| (user, rest));
        let path = rest.find('/').map_or("", |at| &rest[at..]);
        let at = if user.is_empty() { "" } else { "@" };
        format!("{scheme}://{user}{at}{}{path}", self.address)
    }

    /// Cuts all connections; new ones are accepted.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.generation += 1);
    }

    /// Cuts all connections and refuses new ones until [`Self::restore`].
    pub fn refuse(&self) {
        self.weather.send_modify(|weather| {
            weather.open = false;
            weather.generation += 1;
        });
    }

    /// Holds back all bytes, without closing anything, until [`Self::restore`].
    pub fn stall(&self) {
        self.weather.send_modify(|weather| {
            weather.asking = false;
            weather.answering = false;
        });
    }

    /// Holds back what the server says until [`Self::restore`]; what clients say reaches it.
    pub fn mute_server(&self) {
        self.weather.send_modify(|weather| weather.answering = false);
    }

    /// Half-closes all connections: servers are told that the client has said its last word, and hear
    /// nothing more of it; what they still say passes.
    pub fn end_asking(&self) {
        self.weather.send_modify(|weather| weather.asked += 1);
    }

    /// Half-closes all connections the other way: clients are told that the server has ended, and what
    /// they still say reaches it.
    pub fn end_answering(&self) {
        self.weather.send_modify(|weather| weather.answered += 1);
    }

    /// Leads new connections to another server, on this loopback port.
    pub fn lead_to(&self, port: u16) {
        self.weather.send_modify(|weather| weather.port = port);
    }

    /// Delays all bytes, each way.
    pub fn delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Fair weather again; what was held back goes on.
    pub fn restore(&self) {
        self.weather.send_modify(|weather| {
            weather.open = true;
            weather.asking = true;
            weather.answering = true;
            weather.delay = Duration::ZERO;
        });
    }
}

/// `keeper`: holds the port while nobody listens there; otherwise the system may give it to somebody
/// who connects to anything. None where it does not let two have it.
async fn listen(
    listener: TcpListener,
    mut keeper: Option<TcpSocket>,
    mut weather: watch::Receiver<Weather>,
) {
    let Ok(address) = listener.local_addr() else { return };
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let open = weather.borrow_and_update().open;
        if !open {
            // Without a listener the system itself refuses, as for a server that is down.
            listener = None;
        } else if listener.is_none() {
            let next = keeper.take().map_or_else(|| bound(address), Ok);
            keeper = bound(address).ok();
            listener = next.and_then(|socket| socket.listen(BACKLOG)).ok();
        }
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = weather.changed() => if changed.is_err() { return },
            Some((client, _)) = accept => {
                connections.spawn(connection(client, weather.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A socket with this address, which listens to nobody yet.
fn bound(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn connection(client: TcpStream, weather: watch::Receiver<Weather>) {
    // Of before: whoever is cut off while this connects is cut off.
    let Weather { port, generation, .. } = *weather.borrow();
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let mut end = weather.clone();
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        _ = end.wait_for(|now| now.generation != generation) => {}
        () = pass(client_read, server_write, weather.clone(), |now| (now.asking, now.asked)) => {}
        () = pass(server_read, client_write, weather, |now| (now.answering, now.answered)) => {}
    }
}

/// Passes bytes on until one side ends. `state`: whether they flow, and how often this way was closed.
async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    state: impl Fn(&Weather) -> (bool, u64),
) {
    let mut buffer = vec![0; 64 << 10];
    let mut closing = weather.clone();
    let closed = state(&closing.borrow()).1;
    let close = async { closing.wait_for(|now| state(now).1 != closed).await.is_ok() };
    tokio::pin!(close);
    let mut open = true;
    loop {
        let count = tokio::select! {
            _ = &mut close, if open => {
                open = false;
                let _ = to.shutdown().await;
                continue;
            }
            read = from.read(&mut buffer) => match read {
                Ok(count @ 1..) => count,
                Ok(0) | Err(_) => return,
            },
        };
        let delay = match weather.wait_for(|now| state(now).0).await {
            Ok(now) => now.delay,
            Err(_) => return,
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if open && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_forwards_cuts_refuses_and_restores() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let proxy = FaultProxy::start(port).await.unwrap();
        assert!(
            proxy
                .instead_of("postgres://u:p@h:1/d")
                .ends_with(&format!("u:p@{}/d", proxy.address()))
        );
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut four = [0; 4];
        accepted.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"ping");

        assert!(proxy.connected());
        proxy.refuse();
        assert!(matches!(client.read(&mut four).await, Ok(0) | Err(_)), "cut");
        crate::wait_until("connections are refused", async || {
            match TcpStream::connect(proxy.address()).await {
                Ok(_) => Err("accepted".to_owned()),
                Err(_) => Ok(()),
            }
        })
        .await
        .unwrap();
        assert!(!proxy.connected());
        proxy.restore();
        crate::wait_until("connections are accepted", async || {
            TcpStream::connect(proxy.address()).await.map_err(|e| e.to_string())
        })
        .await
        .unwrap();
    }

    /// A connection through the proxy over which something has passed each way.
    async fn connected(proxy: &FaultProxy, server: &TcpListener) -> (TcpStream, TcpStream) {
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        let mut four = [0; 4];
        client.write_all(b"ping").await.unwrap();
        accepted.read_exact(&mut four).await.unwrap();
        accepted.write_all(b"pong").await.unwrap();
        client.read_exact(&mut four).await.unwrap();
        (client, accepted)
    }

    #[tokio::test]
    async fn it_half_closes_each_way() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = FaultProxy::start(server.local_addr().unwrap().port()).await.unwrap();
        let mut four = [0; 4];

        // It passes on what it hears before it is told to end something.
        let (mut client, mut accepted) = connected(&proxy, &server).await;
        proxy.end_asking();
        assert_eq!(accepted.read(&mut four).await.unwrap(), 0, "the client has ended");
        client.write_all(b"lost").await.unwrap();
        accepted.write_all(b"last").await.unwrap();
        client.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"last");
        drop((client, accepted));

        let (mut client, mut accepted) = connected(&proxy, &server).await;
        proxy.end_answering();
        assert_eq!(client.read(&mut four).await.unwrap(), 0, "the server has ended");
        client.write_all(b"more").await.unwrap();
        accepted.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"more");
    }
}
