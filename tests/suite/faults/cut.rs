//! The network at each fault point: all connections to Postgres, or all to NATS, or both, break
//! exactly while the program stands at the point. Nobody starts it again: it is to wait for what it
//! has lost, and go on.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tribox::fault::Point;
use tribox_tests::{FaultProxy, Server, Stack};

use super::{Case, Wrong, try_all};

/// How long it still stands there when something has befallen the connections: what runs beside it
/// is to notice.
const STANDS: Duration = Duration::from_millis(100);
/// For how long it then goes on without connections.
const AWAY: Duration = Duration::from_millis(400);
/// How often it is looked whether it stands there, and whether connections are gone.
const LOOK: Duration = Duration::from_millis(2);

/// How connections break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// They are gone, and no new ones can be made for a while.
    Refused,
    /// They are gone, and new ones can be made at once: whoever runs beside has them before the
    /// program goes on.
    MadeAnew,
    /// What the program still says arrives, and nothing of the server does; then they are gone.
    Unanswered,
}

/// Which connections break, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    servers: &'static [Server],
    manner: Manner,
}

impl Cut {
    /// All that are tried.
    const ALL: [Cut; 5] = [
        Cut { servers: &[Server::Postgres], manner: Manner::Refused },
        Cut { servers: &[Server::Nats], manner: Manner::Refused },
        Cut { servers: &[Server::Postgres], manner: Manner::Unanswered },
        Cut { servers: &[Server::Nats], manner: Manner::Unanswered },
        // Both in one case, for the sake of time.
        Cut { servers: &[Server::Postgres, Server::Nats], manner: Manner::MadeAnew },
    ];

    /// What happens, in the name of a case.
    pub fn name(self) -> String {
        let name = |server: &Server| match server {
            Server::Postgres => "postgres",
            Server::Nats => "nats",
        };
        let servers: Vec<_> = self.servers.iter().map(name).collect();
        let manner = match self.manner {
            Manner::Refused => "refused",
            Manner::MadeAnew => "made anew",
            Manner::Unanswered => "unanswered",
        };
        format!("{} {manner}", servers.join(" and "))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_connection_breaks_at_a_point_the_ledger_is_clean() -> Result<()> {
    let of = |point| Cut::ALL.map(|cut| Case { point, wrong: Wrong::Cut(cut) });
    let done = try_all(Point::ALL.iter().copied().flat_map(of)).await;
    let count = done.len();
    let wrong = done.into_iter().filter_map(|(name, outcome)| Some((name, outcome.err()?)));
    let wrong: Vec<String> = wrong.map(|(name, why)| format!("{name}: {why:#}")).collect();
    println!("{count} cases at {} points", Point::ALL.len());
    ensure!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// The ways of the hosts of a stack to its servers.
pub struct Ways {
    to_postgres: FaultProxy,
    to_nats: FaultProxy,
}

impl Ways {
    /// From now on there are no others.
    ///
    /// # Errors
    /// A server has no port, or no port is free.
    pub async fn of(stack: &mut Stack) -> Result<Ways> {
        let url = stack.database_url().to_owned();
        let to_postgres = FaultProxy::start(port(&url).context(url.clone())?).await?;
        let to_nats = FaultProxy::start(stack.nats.port()).await?;
        let nats = to_nats.instead_of(&stack.nats_url());
        stack.config.set("postgres.url", to_postgres.instead_of(&url)).set("nats.url", nats);
        Ok(Ways { to_postgres, to_nats })
    }

    /// Cuts those that `cut` says once the program stands at its point, which is while the file
    /// `stands` is there, and restores them.
    ///
    /// # Errors
    /// There was no connection, or the file cannot be taken away.
    pub async fn befall(&self, cut: Cut, stands: &Path) -> Result<()> {
        let way = |server: &Server| match server {
            Server::Postgres => &self.to_postgres,
            Server::Nats => &self.to_nats,
        };
        let ways: Vec<&FaultProxy> = cut.servers.iter().map(way).collect();
        until(|| stands.exists()).await;
        ensure!(ways.iter().all(|way| way.connected()), "there is no connection to cut");
        match cut.manner {
            Manner::Refused => hang_up(&ways).await,
            Manner::MadeAnew => {
                hang_up(&ways).await;
                ways.iter().for_each(|way| way.restore());
            }
            Manner::Unanswered => ways.iter().for_each(|way| way.mute_server()),
        }
        tokio::time::sleep(STANDS).await;
        std::fs::remove_file(stands).context("the program cannot go on")?;
        if cut.manner != Manner::MadeAnew {
            tokio::time::sleep(AWAY).await;
            // Restored, what was held back would be heard after all.
            hang_up(&ways).await;
            ways.iter().for_each(|way| way.restore());
        }
        Ok(())
    }
}

/// Cuts all connections, and refuses new ones until the ways are restored.
async fn hang_up(ways: &[&FaultProxy]) {
    ways.iter().for_each(|way| way.refuse());
    until(|| !ways.iter().any(|way| way.connected())).await;
}

async fn until(so: impl Fn() -> bool) {
    while !so() {
        tokio::time::sleep(LOOK).await;
    }
}

/// The port that a URL names.
fn port(url: &str) -> Option<u16> {
    let (_, rest) = url.split_once("://")?;
    let host = rest.split('/').next()?.rsplit('@').next()?;
    host.rsplit_once(':')?.1.parse().ok()
}
