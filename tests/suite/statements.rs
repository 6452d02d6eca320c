//! The SQL: every statement stands in a file and suits the schema, migrations come to the same
//! however they are applied, and documents are kept in the form that Postgres itself gives them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tribox::store::STATEMENTS;
use tribox_tests::{database, programs};

use crate::json::{BAD, Dice, document};

#[tokio::test]
async fn every_statement_suits_the_schema() -> Result<()> {
    let mut connection = PgConnection::connect(&database::fresh("statements").await?).await?;
    for (name, sql) in STATEMENTS {
        let prepare = format!("PREPARE {name} AS {sql}");
        connection.execute(AssertSqlSafe(prepare)).await.with_context(|| format!("{name}.sql"))?;
    }
    Ok(())
}

#[test]
fn every_file_is_a_statement() -> Result<()> {
    let directory = programs::repository().join("host/sql");
    let mut files = BTreeSet::new();
    for file in std::fs::read_dir(&directory)? {
        let path = file?.path();
        let name = path.file_stem().context("a name")?.to_string_lossy().into_owned();
        files.insert((name, std::fs::read_to_string(&path)?));
    }
    let known = STATEMENTS.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned()));
    assert_eq!(files, known.collect());
    Ok(())
}

/// Tables with their columns, defaults, indexes and constraints, functions, triggers and views.
async fn schema(url: &str) -> Result<Vec<String>> {
    let mut connection = PgConnection::connect(url).await?;
    let sql = "
        SELECT format('%s.%s.%s %s %s %s', table_schema, table_name, column_name, data_type,
                      is_nullable, column_default) AS line
          FROM information_schema.columns WHERE table_schema LIKE 'tribox%'
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname LIKE 'tribox%'
        UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid)
          FROM pg_constraint WHERE connamespace::regnamespace::text LIKE 'tribox%'
        UNION ALL SELECT pg_get_functiondef(oid)
          FROM pg_proc WHERE pronamespace::regnamespace::text LIKE 'tribox%'
        UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'tribox%'
        UNION ALL SELECT format('migration %s %s', version, name) FROM tribox.migrations
        ORDER BY 1";
    Ok(sqlx::query_scalar(sql).fetch_all(&mut connection).await?)
}

/// What `tribox migrate` prints.
fn migrate(url: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(programs::tribox()?);
    command.arg("migrate").args(arguments).env("DATABASE_URL", url).current_dir("/");
    let output = command.output().context("failed to run tribox migrate")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tribox migrate: {}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn migrations_apply_once_by_the_program_or_by_psql() -> Result<()> {
    let url = database::empty("migrate").await?;
    let first = migrate(&url, &[])?;
    assert!(first.starts_with("applied tables, functions"), "{first}");
    let migrated = schema(&url).await?;
    assert_eq!(migrate(&url, &[])?, "the database is up to date\n");
    assert_eq!(schema(&url).await?, migrated);

    let by_hand = database::empty("by_hand").await?;
    let printed = migrate(&by_hand, &["--print"])?;
    let mut psql = Command::new(programs::psql()?)
        .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", &by_hand])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    std::io::Write::write_all(&mut psql.stdin.take().context("stdin")?, printed.as_bytes())?;
    ensure!(psql.wait()?.success(), "psql failed");
    assert_eq!(schema(&by_hand).await?, migrated);
    assert_eq!(migrate(&by_hand, &[])?, "the database is up to date\n");
    Ok(())
}

#[tokio::test]
async fn a_teams_own_migrations_are_not_touched() -> Result<()> {
    let url = database::empty("team").await?;
    let mut connection = PgConnection::connect(&url).await?;
    let table = "CREATE TABLE _sqlx_migrations (version bigint PRIMARY KEY, checksum bytea);
                 INSERT INTO _sqlx_migrations VALUES (1, 'theirs');
                 CREATE TABLE documents (theirs text)";
    connection.execute(table).await?;
    migrate(&url, &[])?;
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations")
            .fetch_all(&mut connection)
            .await?;
    assert_eq!(rows, [(1, b"theirs".to_vec())]);
    let ours = "SELECT count(*) FROM information_schema.tables
                 WHERE table_schema = 'public' AND table_name NOT IN ('_sqlx_migrations', 'documents')";
    let ours: i64 = sqlx::query_scalar(ours).fetch_one(&mut connection).await?;
    assert_eq!(ours, 0, "nothing of ours is outside our schemas");
    Ok(())
}

/// What Postgres makes of each text as `jsonb`; nothing where it refuses.
async fn as_jsonb(texts: &[String]) -> Result<Vec<Option<String>>> {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut connection =
        PgConnection::connect(&database::empty(&format!("json_{number}")).await?).await?;
    let function = "CREATE FUNCTION as_jsonb(t text) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN RETURN t::jsonb::text; EXCEPTION WHEN data_exception OR program_limit_exceeded
        THEN RETURN NULL; END $$";
    connection.execute(function).await?;
    let sql = "SELECT as_jsonb(t) FROM unnest($1::text[]) WITH ORDINALITY AS u (t, n) ORDER BY n";
    Ok(sqlx::query_scalar(sql).bind(texts).fetch_all(&mut connection).await?)
}

fn canonical(text: &str) -> Option<String> {
    tribox::model::json::canonical(text, 1 << 20).ok()
}

#[tokio::test]
async fn documents_have_the_form_that_postgres_gives_them() -> Result<()> {
    let mut dice = Dice(7);
    let texts: Vec<String> = (0..4_000).map(|_| document(&mut dice)).collect();
    for (text, expected) in texts.iter().zip(as_jsonb(&texts).await?) {
        let expected = expected.with_context(|| format!("Postgres refuses {text}"))?;
        assert_eq!(canonical(text), Some(expected.clone()), "of {text}");
        assert_eq!(canonical(&expected), Some(expected), "the form is its own");
    }
    Ok(())
}

#[tokio::test]
async fn what_postgres_refuses_is_refused() -> Result<()> {
    let texts: Vec<String> = BAD.iter().map(|text| (*text).to_owned()).collect();
    for (text, postgres) in texts.iter().zip(as_jsonb(&texts).await?) {
        assert_eq!((postgres, canonical(text)), (None, None), "{text}");
    }
    Ok(())
}

/// Good documents with a character taken away, doubled or replaced: mostly bad ones, of every kind.
#[tokio::test]
async fn damaged_documents_are_told_as_postgres_tells_them() -> Result<()> {
    let mut dice = Dice(11);
    let texts: Vec<String> = (0..4_000).map(|_| damaged(&document(&mut dice), &mut dice)).collect();
    let mut refused = 0;
    for (text, postgres) in texts.iter().zip(as_jsonb(&texts).await?) {
        refused += usize::from(postgres.is_none());
        assert_eq!(canonical(text), postgres, "of {text}");
    }
    assert!((500..3_900).contains(&refused), "{refused} of them are bad");
    Ok(())
}

fn damaged(text: &str, dice: &mut Dice) -> String {
    const WITH: &[char] =
        &['"', '\\', '{', '}', '[', ']', ',', ':', '0', '-', '.', 'e', 'u', '\u{1}'];
    let mut characters: Vec<char> = text.chars().collect();
    let at = dice.below(characters.len());
    match dice.below(3) {
        0 => drop(characters.remove(at)),
        1 => characters.insert(at, characters[at]),
        _ => characters[at] = WITH[dice.below(WITH.len())],
    }
    characters.into_iter().collect()
}

#[test]
fn every_migration_is_in_the_program() -> Result<()> {
    let directory: &Path = &programs::repository().join("host/migrations");
    let mut files = std::fs::read_dir(directory)?
        .map(|file| Ok(file?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<String>>>()?;
    files.sort();
    let known: Vec<String> = tribox::store::MIGRATIONS
        .iter()
        .map(|step| format!("{:04}_{}.sql", step.version, step.name))
        .collect();
    assert_eq!(files, known);
    Ok(())
}
