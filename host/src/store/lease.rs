//! Leases: this node's own, and what it owns by it. All times are Postgres's.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::error::is_away;
use super::read::patiently;
use super::{Postgres, sql};
use crate::fault::{self, Point};
use crate::lane::ports::StoreAway;

/// What became of a wish to own a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is this node's; `crashes`: of the node it was taken from, in the last hour.
    Owned { crashes: i32 },
    /// Another node has it.
    Held { by: String },
}

/// A sign of life, as the database took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// How many this node has given.
    pub count: i64,
    /// When the server was started; another server has another one.
    pub server: i64,
}

impl Beat {
    /// Whether the database that took this one may have lost what it had committed after `before`.
    pub fn may_have_gone_back(self, before: Beat) -> bool {
        self.count <= before.count || self.server != before.server
    }
}

/// A node that this one has fenced out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buried {
    pub name: String,
    pub holder: String,
    /// Since its last sign of life.
    pub silent: Duration,
}

/// Why this node can write no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Its lease was over, and another node took over.
    Buried { by: String },
    /// Another process has taken its name.
    NameTaken { holder: String },
    /// The database does not know it as it was registered: it was restored, say.
    Unknown,
    /// It stands as before; what it had was taken from it.
    Standing,
}

/// A log to be published: where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenLog {
    pub writer: i32,
    pub published: i64,
    pub last: i64,
}

/// A log of a unit that another node wrote and that is not published to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftLog {
    pub writer: i32,
    /// The node that publishes it.
    pub node: String,
}

impl Postgres {
    /// Tells that this node lives, and prolongs its lease. `None`: it was fenced out.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn heartbeat(&self, lease: Duration) -> Result<Option<Beat>, StoreAway> {
        if fault::twice(Point::LeaseProlonged) {
            Box::pin(self.heartbeat(lease)).await?;
        }
        let query = sqlx::query_as(sql!("heartbeat"))
            .bind(&self.node.name)
            .bind(self.node.epoch)
            .bind(milliseconds(lease));
        let beat: Option<(i64, i64)> = patiently(query.fetch_optional(&self.pool)).await?;
        fault::point(Point::LeaseProlonged)?;
        Ok(beat.map(|(count, server)| Beat { count, server }))
    }

    /// Fences out nodes whose lease is over and takes over their logs; see [`Self::own_logs`].
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn bury(&self) -> Result<Vec<Buried>, StoreAway> {
        let query = sqlx::query(sql!("bury")).bind(&self.node.name).bind(self.node.epoch).try_map(
            |row: PgRow| {
                let silent: i64 = row.try_get("silent_ms")?;
                Ok(Buried {
                    name: row.try_get("name")?,
                    holder: row.try_get("holder")?,
                    silent: Duration::from_millis(u64::try_from(silent).unwrap_or_default()),
                })
            },
        );
        let buried = patiently(query.fetch_all(&self.pool)).await?;
        if !buried.is_empty() {
            fault::point(Point::TookOver)?;
        }
        Ok(buried)
    }

    /// Why this node can write no more.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn fate(&self) -> Result<Fate, StoreAway> {
        let query = sqlx::query_as(sql!("node_fate")).bind(&self.node.name);
        let row: Option<(i64, String, Option<String>)> =
            patiently(query.fetch_optional(&self.pool)).await?;
        Ok(match row {
            Some((_, _, Some(by))) => Fate::Buried { by },
            Some((epoch, _, None)) if epoch == self.node.epoch => Fate::Standing,
            Some((epoch, holder, None)) if epoch > self.node.epoch => Fate::NameTaken { holder },
            _ => Fate::Unknown,
        })
    }

    /// Has this node own a unit, unless another one does.
    ///
    /// # Errors
    /// The database cannot be used, or this node was fenced out.
    pub async fn claim(&self, unit: &str) -> Result<Claim, StoreAway> {
        if fault::twice(Point::UnitClaimed) {
            Box::pin(self.claim(unit)).await?;
        }
        let query =
            sqlx::query_as(sql!("claim")).bind(&self.node.name).bind(self.node.epoch).bind(unit);
        let (owned, by, crashes): (bool, String, i32) =
            patiently(query.fetch_one(&self.pool)).await?;
        if !owned {
            return Ok(Claim::Held { by });
        }
        fault::point(Point::UnitClaimed)?;
        Ok(Claim::Owned { crashes })
    }

    /// Gives a unit up, for others to own.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn release(&self, unit: &str) -> Result<(), StoreAway> {
        if fault::twice(Point::UnitReleased) {
            Box::pin(self.release(unit)).await?;
        }
        let query =
            sqlx::query(sql!("release")).bind(unit).bind(&self.node.name).bind(self.node.epoch);
        patiently(query.execute(&self.pool)).await?;
        Ok(fault::point(Point::UnitReleased)?)
    }

    /// Notes that the lanes of these logs work no more, for people who ask who runs what.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn close_logs(&self, logs: &[i32]) -> Result<(), StoreAway> {
        let query = sqlx::query(sql!("close_logs")).bind(logs);
        patiently(query.execute(&self.pool)).await.map(drop)
    }

    /// Tells which units this node works on or stands by for.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn want(&self, units: &[String]) -> Result<(), StoreAway> {
        let query =
            sqlx::query(sql!("want")).bind(&self.node.name).bind(self.node.epoch).bind(units);
        patiently(query.execute(&self.pool)).await.map(drop)
    }

    /// The unit that this node should give up to one that has less.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn surplus(&self) -> Result<Option<String>, StoreAway> {
        let query = sqlx::query_scalar(sql!("surplus")).bind(&self.node.name);
        patiently(query.fetch_one(&self.pool)).await
    }

    /// Logs that this node publishes and has not published to their end; `inherited`: those alone
    /// that it took over from other nodes.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn own_logs(&self, inherited: bool) -> Result<Vec<OpenLog>, StoreAway> {
        let query = sqlx::query(sql!("own_logs")).bind(&self.node.name).bind(inherited).try_map(
            |row: PgRow| {
                Ok(OpenLog {
                    writer: row.try_get("id")?,
                    published: row.try_get("published")?,
                    last: row.try_get("last")?,
                })
            },
        );
        patiently(query.fetch_all(&self.pool)).await
    }

    /// Logs of a unit that other nodes wrote and that are not published to their end, and those of its
    /// handler when it was split otherwise.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn left_logs(&self, unit: &str) -> Result<Vec<LeftLog>, StoreAway> {
        let query = sqlx::query(sql!("left_logs")).bind(unit).bind(&self.node.name);
        let rows = patiently(query.fetch_all(&self.pool)).await?;
        let log =
            |row: &PgRow| Ok(LeftLog { writer: row.try_get("id")?, node: row.try_get("node")? });
        rows.iter().map(log).collect::<Result<_, sqlx::Error>>().map_err(is_away)
    }
}

pub(super) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
