//! A table with indexes beside one without: whatever is done to both, they answer alike.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{World, run_block};
use crate::session::Session;

/// Statements that change rows, `#` in the place of the table.
fn change(rng: &mut StdRng) -> String {
    let id = rng.random_range(1..60);
    let value = |rng: &mut StdRng| match rng.random_range(0..9) {
        0 | 1 => "NULL".to_owned(),
        _ => rng.random_range(-3..12).to_string(),
    };
    let word = |rng: &mut StdRng| match rng.random_range(0..6) {
        0 => "NULL".to_owned(),
        n => format!("'{}'", ["open", "Open", "done", "held", "OPEN"][n - 1]),
    };
    let (a, b, s) = (value(rng), value(rng), word(rng));
    match rng.random_range(0..12) {
        0..=3 => format!("INSERT INTO # VALUES ({id}, {a}, {b}, {s})"),
        4 => format!("INSERT INTO # SELECT g, {a}, g % 7, {s} FROM generate_series({id}, {id} + 3) g"),
        5 => format!("INSERT INTO # VALUES ({id}, {a}, {b}, {s}) ON CONFLICT DO NOTHING"),
        6 => {
            format!(
                "INSERT INTO # VALUES ({id}, {a}, {b}, {s}) ON CONFLICT (id) DO UPDATE SET a = excluded.a"
            )
        }
        7 => format!("UPDATE # SET a = {a} WHERE id = {id}"),
        8 => format!("UPDATE # SET b = {b}, s = {s} WHERE id = {id}"),
        9 => format!("UPDATE # SET a = a + 1, s = {s} WHERE b = {b}"),
        10 => format!("DELETE FROM # WHERE id = {id}"),
        _ => format!("DELETE FROM # WHERE a = {a} AND s = {s}"),
    }
}

/// Questions that indexes may answer.
fn questions(rng: &mut StdRng) -> Vec<String> {
    let (n, m) = (rng.random_range(-3..12), rng.random_range(-3..12));
    vec![
        format!("SELECT id FROM # WHERE a = {n} AND s = 'open' ORDER BY id"),
        "SELECT id, a FROM # WHERE s = 'open' ORDER BY a, id".to_owned(),
        format!("SELECT id, b FROM # WHERE a > 5 AND b > {n} ORDER BY b, id"),
        format!("SELECT id FROM # WHERE a > {n} AND b = {m} ORDER BY id"),
        format!("SELECT count(*), sum(b) FROM # WHERE a >= 6 AND b < {m}"),
        format!("SELECT id FROM # WHERE b = {n} ORDER BY id"),
        "SELECT b FROM # WHERE b IS NOT NULL ORDER BY b DESC LIMIT 3".to_owned(),
        format!("SELECT id FROM # WHERE s IN ('open', 'held') AND a = {n} ORDER BY id"),
        "SELECT x.id, y.id FROM # x JOIN # y ON y.a = x.b WHERE y.s = 'open' ORDER BY 1, 2".to_owned(),
        format!(
            "SELECT x.id, y.id FROM # x LEFT JOIN # y ON y.b = x.a AND y.a > 5 WHERE x.b = {n} ORDER BY 1, 2"
        ),
        "SELECT * FROM # ORDER BY id".to_owned(),
        "SELECT id, s FROM # WHERE lower(s) = 'open' ORDER BY id".to_owned(),
        "SELECT lower(s) FROM # ORDER BY lower(s)".to_owned(),
        "SELECT id FROM # WHERE lower(s) IS NULL ORDER BY id".to_owned(),
        format!("SELECT a + b FROM # WHERE a + b >= {n} ORDER BY a + b DESC NULLS LAST"),
        format!("SELECT id, a + b FROM # WHERE a + b IN ({n}, {m}, 3) AND s > 'd' ORDER BY id"),
        format!("SELECT count(*) FROM # WHERE s = 'open' AND a * 2 > {n} AND b > 2 AND a * 2 + b <> {m}"),
        format!("SELECT id, a / 2.0 FROM # WHERE a / 2.0 < {n} ORDER BY id"),
        format!("SELECT x.id, y.id FROM # x JOIN # y ON lower(y.s) = x.s AND x.b = {n} ORDER BY 1, 2"),
    ]
}

async fn run(session: &mut Session, sql: &str, table: &str) -> String {
    run_block(session, &sql.replace('#', table)).await
}

/// Runs random statements against a table with these indexes and one without; `unique` indexes are not among them, since
/// they refuse what the other table takes.
async fn compare(seed: u64, indexes: &[&str], rounds: usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let world = World::new().await;
    let mut session = world.session().await;
    for table in ["bare", "rich"] {
        let sql = "CREATE TABLE # (id int PRIMARY KEY, a int, b int, s text)";
        assert_eq!(run(&mut session, sql, table).await, "CREATE TABLE\n");
    }
    for round in 0..rounds {
        // Some indexes come while there are rows, and some go and come back.
        if round % 40 == 0 {
            let index = indexes[(round / 40) % indexes.len()];
            let name = index.split_whitespace().nth(2).expect("CREATE INDEX name");
            if rng.random_range(0..4) == 0 {
                run(&mut session, &format!("DROP INDEX IF EXISTS {name}"), "").await;
            }
            let made = run(&mut session, &index.replace("INDEX", "INDEX IF NOT EXISTS"), "rich").await;
            assert!(!made.contains("ERROR"), "seed {seed}: {index}: {made}");
        }
        let sql = change(&mut rng);
        let (plain, indexed) = (run(&mut session, &sql, "bare").await, run(&mut session, &sql, "rich").await);
        assert_eq!(plain.replace("bare", "rich"), indexed, "seed {seed}: {sql}");
        if round % 10 == 0 {
            for sql in questions(&mut rng) {
                let plain = run(&mut session, &sql, "bare").await;
                let indexed = run(&mut session, &sql, "rich").await;
                assert_eq!(plain, indexed, "seed {seed}: {sql}");
            }
        }
    }
    let checked = run(&mut session, "SELECT meridian.check_table('#')", "rich").await;
    assert!(checked.contains("\nt\n") && !checked.contains("ERROR"), "seed {seed}: {checked}");
}

#[tokio::test]
async fn partial_indexes_change_no_answer() {
    let indexes = [
        "CREATE INDEX r_open ON # (a) WHERE s = 'open'",
        "CREATE INDEX r_big ON # (b DESC) INCLUDE (s) WHERE a > 5",
        "CREATE INDEX r_there ON # (b) WHERE b IS NOT NULL",
        "CREATE INDEX r_either ON # (s, a) WHERE s = 'open' OR a < 0",
        "CREATE INDEX r_whole ON # (b, a)",
    ];
    for seed in 0..6 {
        compare(seed, &indexes, 400).await;
    }
}

#[tokio::test]
async fn expression_indexes_change_no_answer() {
    let indexes = [
        "CREATE INDEX r_lower ON # (lower(s))",
        "CREATE INDEX r_sum ON # ((a + b) DESC, s)",
        "CREATE INDEX r_mixed ON # (s, (a * 2), b) INCLUDE (a) WHERE b > 2",
        "CREATE INDEX r_numeric ON # ((a / 2.0), lower(s) DESC)",
        "CREATE INDEX r_whole ON # (b, a)",
    ];
    for seed in 10..16 {
        compare(seed, &indexes, 400).await;
    }
}

/// A unique index on some rows refuses exactly what a query finds to be there twice.
#[tokio::test]
async fn partial_unique_indexes_hold_among_their_rows() {
    for seed in 0..6 {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new().await;
        let mut session = world.session().await;
        let sql = "CREATE TABLE # (id int PRIMARY KEY, a int, b int, s text)";
        for table in ["bare", "rich"] {
            run(&mut session, sql, table).await;
        }
        let made = run(&mut session, "CREATE UNIQUE INDEX only_one ON # (a) WHERE s = 'open'", "rich").await;
        assert_eq!(made, "CREATE INDEX\n");
        let twice = "SELECT a FROM bare WHERE s = 'open' AND a IS NOT NULL GROUP BY a HAVING count(*) > 1";
        let mut refused = 0;
        for _ in 0..600 {
            let sql = change(&mut rng);
            // Without the index the row that conflicts is not found.
            if sql.ends_with("DO NOTHING") {
                continue;
            }
            run(&mut session, "BEGIN", "").await;
            let plain = run(&mut session, &sql, "bare").await;
            let is_failed = plain.contains("ERROR");
            let conflicts = !is_failed && !run(&mut session, twice, "").await.contains("SELECT 0");
            run(&mut session, if conflicts { "ROLLBACK" } else { "COMMIT" }, "").await;
            let indexed = run(&mut session, &sql, "rich").await;
            if conflicts {
                refused += 1;
                let expected = "ERROR 23505: duplicate key value violates unique constraint \"only_one\"";
                assert!(indexed.starts_with(expected), "seed {seed}: {sql}: {indexed}");
            } else if is_failed {
                // Perhaps at an earlier row of the statement.
                assert!(indexed.starts_with("ERROR 23505"), "seed {seed}: {sql}: {indexed}");
            } else {
                let plain = plain.replace("(T)\n", "");
                assert_eq!(plain, indexed, "seed {seed}: {sql}");
            }
        }
        assert!(refused > 0, "seed {seed}: no statement was refused");
        let rows = "SELECT * FROM # ORDER BY id";
        assert_eq!(run(&mut session, rows, "bare").await, run(&mut session, rows, "rich").await);
        let checked = run(&mut session, "SELECT meridian.check_table('rich')", "").await;
        assert!(!checked.contains("ERROR"), "seed {seed}: {checked}");
    }
}
