//! Postgres: the only room that speaks SQL. Every statement stands in host/sql in a file of its own
//! and is one transaction by itself; nothing here relies on the state of a session but on prepared
//! statements, and on these only where the config says so. See `pool.rs` for poolers.

mod arrays;
mod commit;
mod error;
mod lease;
mod log;
mod migrate;
mod nodes;
mod operator;
mod parked;
mod pool;
mod prune;
mod read;
mod restored;

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{Connection as _, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::error::{ConnectError, MigrateError};
pub use self::lease::{Beat, Buried, Claim, Fate, LeftLog, OpenLog};
pub use self::log::{LoggedEntry, OpenedWriter};
pub use self::migrate::{MIGRATIONS, Migration, migrate, pending, print as print_migrations};
pub use self::nodes::{Node, Registered, register};
pub use self::operator::{
    Batch, HandlerStatus, NodeStatus, NotOperable, Operator, ParkedCount, ParkedDetail,
    ParkedFilter, ParkedLine, PausedKey, Position, Retained, ScheduledCount, ScheduledFilter,
    ScheduledLine, UndeliveredCount, UndeliveredDetail, UndeliveredFilter, UndeliveredLine,
    UnitStatus,
};
pub use self::parked::Standing;
pub use self::pool::{Pool, Statements};
pub use self::restored::Inbox;

/// How long a statement may take before the host takes the database for unreachable.
const PATIENCE: Duration = Duration::from_secs(30);

/// The oldest supported Postgres, as `server_version_num`.
const OLDEST: i32 = 150_000;

/// The statements, by name, as a test prepares them.
pub const STATEMENTS: &[(&str, &str)] = &[
    ("advance_cursors", include_str!("../../sql/advance_cursors.sql")),
    ("already_sent", include_str!("../../sql/already_sent.sql")),
    ("any_already_sent", include_str!("../../sql/any_already_sent.sql")),
    ("bury", include_str!("../../sql/bury.sql")),
    ("claim", include_str!("../../sql/claim.sql")),
    ("close_logs", include_str!("../../sql/close_logs.sql")),
    ("commit", include_str!("../../sql/commit.sql")),
    ("commit_advance", include_str!("../../sql/commit_advance.sql")),
    ("commit_lists", include_str!("../../sql/commit_lists.sql")),
    ("commit_park", include_str!("../../sql/commit_park.sql")),
    ("commit_repark", include_str!("../../sql/commit_repark.sql")),
    ("commit_schedule", include_str!("../../sql/commit_schedule.sql")),
    ("count_parked", include_str!("../../sql/count_parked.sql")),
    ("count_scheduled", include_str!("../../sql/count_scheduled.sql")),
    ("count_scheduled_by", include_str!("../../sql/count_scheduled_by.sql")),
    ("count_undelivered", include_str!("../../sql/count_undelivered.sql")),
    ("documents_of_key", include_str!("../../sql/documents_of_key.sql")),
    ("end_node", include_str!("../../sql/end_node.sql")),
    ("ensure_view", include_str!("../../sql/ensure_view.sql")),
    ("forget_suspects", include_str!("../../sql/forget_suspects.sql")),
    ("heal", include_str!("../../sql/heal.sql")),
    ("heartbeat", include_str!("../../sql/heartbeat.sql")),
    ("held_keys", include_str!("../../sql/held_keys.sql")),
    ("known_handlers", include_str!("../../sql/known_handlers.sql")),
    ("last_seen", include_str!("../../sql/last_seen.sql")),
    ("left_logs", include_str!("../../sql/left_logs.sql")),
    ("intake", include_str!("../../sql/intake.sql")),
    ("known", include_str!("../../sql/known.sql")),
    ("list_documents", include_str!("../../sql/list_documents.sql")),
    ("load", include_str!("../../sql/load.sql")),
    ("moved_logs", include_str!("../../sql/moved_logs.sql")),
    ("next_due", include_str!("../../sql/next_due.sql")),
    ("node_fate", include_str!("../../sql/node_fate.sql")),
    ("note_in_hand", include_str!("../../sql/note_in_hand.sql")),
    ("note_sent", include_str!("../../sql/note_sent.sql")),
    ("open_writer", include_str!("../../sql/open_writer.sql")),
    ("own_logs", include_str!("../../sql/own_logs.sql")),
    ("parked_counts", include_str!("../../sql/parked_counts.sql")),
    ("parked_discard", include_str!("../../sql/parked_discard.sql")),
    ("parked_list", include_str!("../../sql/parked_list.sql")),
    ("parked_messages", include_str!("../../sql/parked_messages.sql")),
    ("parked_one", include_str!("../../sql/parked_one.sql")),
    ("parked_retry", include_str!("../../sql/parked_retry.sql")),
    ("pause_handler", include_str!("../../sql/pause_handler.sql")),
    ("pause_key", include_str!("../../sql/pause_key.sql")),
    ("positions", include_str!("../../sql/positions.sql")),
    ("prune_already_sent", include_str!("../../sql/prune_already_sent.sql")),
    ("prune_discarded", include_str!("../../sql/prune_discarded.sql")),
    ("prune_inbox", include_str!("../../sql/prune_inbox.sql")),
    ("prune_outbox", include_str!("../../sql/prune_outbox.sql")),
    ("prune_suspects", include_str!("../../sql/prune_suspects.sql")),
    ("prune_tombstones", include_str!("../../sql/prune_tombstones.sql")),
    ("prune_writers", include_str!("../../sql/prune_writers.sql")),
    ("read_document", include_str!("../../sql/read_document.sql")),
    ("read_log", include_str!("../../sql/read_log.sql")),
    ("register_component", include_str!("../../sql/register_component.sql")),
    ("register_node", include_str!("../../sql/register_node.sql")),
    ("release", include_str!("../../sql/release.sql")),
    ("release_due", include_str!("../../sql/release_due.sql")),
    ("resend", include_str!("../../sql/resend.sql")),
    ("resume_handler", include_str!("../../sql/resume_handler.sql")),
    ("resume_key", include_str!("../../sql/resume_key.sql")),
    ("retained", include_str!("../../sql/retained.sql")),
    ("retained_since", include_str!("../../sql/retained_since.sql")),
    ("scheduled_cancel", include_str!("../../sql/scheduled_cancel.sql")),
    ("scheduled_counts", include_str!("../../sql/scheduled_counts.sql")),
    ("scheduled_list", include_str!("../../sql/scheduled_list.sql")),
    ("set_undelivered", include_str!("../../sql/set_undelivered.sql")),
    ("settle_resent", include_str!("../../sql/settle_resent.sql")),
    ("status_handlers", include_str!("../../sql/status_handlers.sql")),
    ("status_nodes", include_str!("../../sql/status_nodes.sql")),
    ("status_paused_keys", include_str!("../../sql/status_paused_keys.sql")),
    ("status_positions", include_str!("../../sql/status_positions.sql")),
    ("status_units", include_str!("../../sql/status_units.sql")),
    ("surplus", include_str!("../../sql/surplus.sql")),
    ("still_to_send", include_str!("../../sql/still_to_send.sql")),
    ("suspects", include_str!("../../sql/suspects.sql")),
    ("undelivered_counts", include_str!("../../sql/undelivered_counts.sql")),
    ("undelivered_discard", include_str!("../../sql/undelivered_discard.sql")),
    ("undelivered_list", include_str!("../../sql/undelivered_list.sql")),
    ("undelivered_one", include_str!("../../sql/undelivered_one.sql")),
    ("undelivered_retry", include_str!("../../sql/undelivered_retry.sql")),
    ("wake_undelivered", include_str!("../../sql/wake_undelivered.sql")),
    ("want", include_str!("../../sql/want.sql")),
    ("withdrawn", include_str!("../../sql/withdrawn.sql")),
    ("writer_ids", include_str!("../../sql/writer_ids.sql")),
    ("writer_state", include_str!("../../sql/writer_state.sql")),
];

/// A statement of [`STATEMENTS`].
macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/", $name, ".sql"))
    };
}
use sql;

/// The state of all handlers.
#[derive(Debug, Clone)]
pub struct Postgres {
    pool: Pool,
    node: Node,
    /// Connections that lanes may still have for themselves.
    own: Arc<Semaphore>,
    /// This is a lane's, with a connection of its own.
    _permit: Option<Arc<OwnedSemaphorePermit>>,
}

/// Of so many connections, how many lanes may have for themselves; the others are for all.
fn reserved(connections: u32) -> u32 {
    connections / 2
}

fn pool_options(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        // A broken connection shows in the statement that meets it, which is then repeated.
        .test_before_acquire(false)
}

/// Connections to the database: those that all share, of `connections` in all.
///
/// # Errors
/// The URL is wrong, or the server cannot be reached, refuses, or is too old. `ConnectError::fatal`
/// tells what waiting does not mend.
pub async fn connect(
    url: &str,
    connections: u32,
    statements: Statements,
) -> Result<Pool, ConnectError> {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    if !matches!(scheme, "postgres" | "postgresql") {
        return Err(ConnectError::url(&"it does not begin with postgres://"));
    }
    let options: PgConnectOptions = url.parse().map_err(|why| ConnectError::url(&why))?;
    // Poolers refuse a setting at start that they do not know.
    let options = options.application_name("tribox").extra_float_digits(None);
    let shared = pool_options(connections - reserved(connections));
    let connected = Pool::connect(shared, options.clone(), statements).await;
    let pool = connected.map_err(|why| ConnectError::server(&why))?;
    let version = version(&pool).await.map_err(|why| ConnectError::server(&why))?;
    if version < OLDEST {
        return Err(ConnectError::too_old(version, OLDEST));
    }
    if statements == Statements::Prepared {
        meet(&options).await.map_err(|why| ConnectError::server(&why))?;
    }
    Ok(pool)
}

async fn version<'c>(on: impl sqlx::PgExecutor<'c>) -> Result<i32, Error> {
    let version = "SELECT current_setting('server_version_num')::integer";
    sqlx::query_scalar(version).fetch_one(on).await
}

/// Prepares the first statement on one more connection. All call it by the same name: where it is
/// there already, a pooler hands out connections that somebody else has prepared statements on, and
/// what is executed by a name could be another statement than was meant.
async fn meet(options: &PgConnectOptions) -> Result<(), Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    version(&mut connection).await?;
    connection.close().await
}

impl Postgres {
    /// On what [`connect`] gave for so many connections.
    pub fn new(pool: Pool, connections: u32, node: Node) -> Self {
        let own = Arc::new(Semaphore::new(reserved(connections) as usize));
        Postgres { pool, node, own, _permit: None }
    }

    /// The same for one lane, with a connection of its own as long as there are some: the pool hands
    /// its connections out in turn, so that each would have the caches of its backend cold.
    pub fn for_lane(&self) -> Self {
        let Ok(permit) = Arc::clone(&self.own).try_acquire_owned() else { return self.clone() };
        Postgres {
            pool: self.pool.another(pool_options(1)),
            node: self.node.clone(),
            own: Arc::clone(&self.own),
            _permit: Some(Arc::new(permit)),
        }
    }

    pub fn node(&self) -> &Node {
        &self.node
    }
}
