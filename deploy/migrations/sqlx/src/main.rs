//! `sqlx::migrate!` as an application has it: the migrations are compiled in, and run at the start.
//!
//! ```text
//! migrations-sqlx up          all that are not yet applied
//! migrations-sqlx down N      back to version N
//! migrations-sqlx together N  N programs at once, as many instances of an application start
//! migrations-sqlx list        what is applied
//! ```
//! The database is `DATABASE_URL`.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Row};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

async fn connect() -> Result<PgPool, sqlx::Error> {
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL names the database");
    PgPoolOptions::new().max_connections(2).connect(&url).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["up"] => MIGRATIONS.run(&connect().await?).await?,
        ["down", version] => MIGRATIONS.undo(&connect().await?, version.parse()?).await?,
        ["together", count] => {
            let mut all = Vec::new();
            for _ in 0..count.parse::<usize>()? {
                let pool = connect().await?;
                all.push(tokio::spawn(async move { MIGRATIONS.run(&pool).await }));
            }
            for one in all {
                one.await??;
            }
        }
        ["list"] => list(&connect().await?).await?,
        _ => {
            eprintln!("usage: migrations-sqlx up | down VERSION | together COUNT | list");
            std::process::exit(2);
        }
    }
    Ok(())
}

async fn list(pool: &PgPool) -> Result<(), MigrateError> {
    let rows = sqlx::query("SELECT version, description, success FROM _sqlx_migrations ORDER BY version");
    for row in rows.fetch_all(pool).await? {
        let (version, description): (i64, String) = (row.get(0), row.get(1));
        println!("{version} {description}{}", if row.get(2) { "" } else { " (failed)" });
    }
    Ok(())
}
