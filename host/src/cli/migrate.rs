//! `tribox migrate`.

use super::{ConfigFile, Outcome, runtime, say};
use crate::store;

pub(super) fn run(config: &ConfigFile, print: bool) -> Outcome {
    let config = config.load()?;
    runtime()?.block_on(async {
        let statements = store::Statements::from_config(config.postgres.prepared_statements);
        let connected = store::connect(&config.postgres.url, 2, statements).await;
        if print {
            let steps = match &connected {
                Ok(pool) => store::pending(pool).await?,
                Err(_) => store::MIGRATIONS.to_vec(),
            };
            say(&store::print_migrations(&steps));
            return Ok(());
        }
        let applied = store::migrate(&connected?).await?;
        match applied.as_slice() {
            [] => say("the database is up to date"),
            steps => say(&format!("applied {}", steps.join(", "))),
        }
        Ok(())
    })
}
