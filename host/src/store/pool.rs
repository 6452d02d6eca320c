//! Connections to the database, and how a statement is run on one. Either way it is a transaction
//! by itself, and nothing else of a session is relied on.
//!
//! A driver prepares a statement in one round trip and executes it in the next. A pooler that hands
//! each transaction to any connection of its own, and does not keep track of prepared statements, may
//! have the second land on a connection that does not know the statement, or knows another one by its
//! name. There both go into one transaction, and the statement has no name.

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{
    PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgQueryResult, PgRow, PgStatement,
    PgTypeInfo,
};
use sqlx::{Either, Error, Execute, Executor, Postgres as Pg, SqlStr};

/// Begins a transaction for one statement. Where this process freezes in its middle, Postgres ends it
/// and gives its locks free: others may be taking over.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '2s'";

/// How statements get to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statements {
    /// Each is prepared once on a connection, and known there by a name.
    Prepared,
    /// Each is prepared anew, without a name, in a transaction of its own: three round trips more.
    Unprepared,
}

impl Statements {
    /// As the config says it: whether statements are prepared once on a connection.
    pub fn from_config(prepared: bool) -> Self {
        if prepared { Statements::Prepared } else { Statements::Unprepared }
    }
}

/// Connections to the database, for rooms that pass them on.
#[derive(Debug, Clone)]
pub struct Pool {
    connections: PgPool,
    statements: Statements,
}

/// What a statement gives: rows, and at its end how many there were.
type Step = Either<PgQueryResult, PgRow>;

impl Pool {
    pub(super) async fn connect(
        pool: PgPoolOptions,
        options: PgConnectOptions,
        statements: Statements,
    ) -> Result<Self, Error> {
        Ok(Pool { connections: pool.connect_with(options).await?, statements })
    }

    /// A pool like this one that connects when it is used.
    pub(super) fn another(&self, pool: PgPoolOptions) -> Self {
        let options = self.connections.connect_options().as_ref().clone();
        Pool { connections: pool.connect_lazy_with(options), statements: self.statements }
    }

    /// A connection for a script that begins and ends its own transaction.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Pg>, Error> {
        self.connections.acquire().await
    }

    /// All that a statement gives, once it is committed.
    async fn in_transaction<'q, E>(&self, query: E) -> Result<Vec<Step>, Error>
    where
        E: Execute<'q, Pg> + 'q,
    {
        let mut transaction = self.connections.begin_with(BEGIN).await?;
        let steps = transaction.fetch_many(Unnamed(query)).try_collect().await?;
        transaction.commit().await?;
        Ok(steps)
    }
}

impl<'c> Executor<'c> for &'c Pool {
    type Database = Pg;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, Error>>
    where
        'c: 'e,
        E: Execute<'q, Pg> + 'q,
    {
        match self.statements {
            Statements::Prepared => self.connections.fetch_many(query),
            Statements::Unprepared => stream::once(self.in_transaction(query))
                .map_ok(|steps| stream::iter(steps.into_iter().map(Ok)))
                .try_flatten()
                .boxed(),
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        E: Execute<'q, Pg> + 'q,
    {
        match self.statements {
            Statements::Prepared => self.connections.fetch_optional(query),
            Statements::Unprepared => Box::pin(async move {
                let steps = self.in_transaction(query).await?;
                Ok(steps.into_iter().find_map(Either::right))
            }),
        }
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'c: 'e,
    {
        self.connections.prepare_with(sql, parameters)
    }
}

/// A query whose statement gets no name.
struct Unnamed<E>(E);

impl<'q, E: Execute<'q, Pg>> Execute<'q, Pg> for Unnamed<E> {
    fn sql(self) -> SqlStr {
        self.0.sql()
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.0.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        self.0.take_arguments()
    }

    fn persistent(&self) -> bool {
        false
    }
}
