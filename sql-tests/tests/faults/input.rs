//! Bytes and statements that nobody should send.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use meridian_sql_tests::{Cluster, ClusterKind, connect};

use super::bank::single_i64;

fn raw(cluster: &Cluster) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", cluster.pg_port(0))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn startup_packet() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0root\0database\0defaultdb\0\0";
    let mut packet = ((body.len() + 4) as u32).to_be_bytes().to_vec();
    packet.extend_from_slice(body);
    packet
}

/// Reads until ReadyForQuery or the end of the stream.
fn read_answer(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return all,
            Ok(n) => all.extend_from_slice(&chunk[..n]),
        }
        if all.len() >= 6 && all[all.len() - 6..all.len() - 1] == *b"Z\0\0\0\x05" {
            return all;
        }
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&((body.len() + 4) as u32).to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

fn bad_input_leaves_others_alone(cluster: &Cluster) {
    // Garbage instead of a start-up packet, and lengths that lie.
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\0\0\0\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\0\0\0\x08\0\0\0\0",
    ] {
        let mut stream = raw(cluster);
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        read_answer(&mut stream);
    }
    let open = || {
        let mut stream = raw(cluster);
        stream.write_all(&startup_packet()).unwrap();
        assert!(read_answer(&mut stream).ends_with(b"I"), "no ReadyForQuery after start-up");
        stream
    };
    // Invalid UTF-8 is refused, and the connection stays usable.
    let mut stream = open();
    stream.write_all(&message(b'Q', b"SELECT '\xff'\0")).unwrap();
    assert!(contains(&read_answer(&mut stream), b"C22021\0"));
    stream.write_all(&message(b'Q', b"SELECT 41 + 1\0")).unwrap();
    assert!(contains(&read_answer(&mut stream), b"42"));
    // Fields that are not there, counts and lengths that lie: the message fails, and what follows Sync is served.
    let parse = message(b'P', b"\0select $1::int\0\0\0");
    for bad in [
        message(b'Q', b"SELECT 1\0garbage\0"),
        message(b'Q', b"SELECT 1"),
        message(b'P', b""),
        message(b'P', b"x"),
        message(b'P', b"\0select 1\0\xff\xff"),
        message(b'B', b""),
        message(b'B', b"\0\0\0\x7f"),
        message(b'B', b"\0\0\0\0\x7f\xff"),
        message(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfb\0\0"),
        message(b'E', b""),
        message(b'D', b""),
        message(b'D', b"Zx\0"),
        message(b'C', b"P"),
        message(b'S', b"x"),
        message(b'H', b"x"),
    ] {
        let mut stream = open();
        stream.write_all(&[&parse[..], &bad].concat()).unwrap();
        if !matches!(bad[0], b'Q' | b'S') {
            stream.write_all(&message(b'S', b"")).unwrap();
        }
        let answer = read_answer(&mut stream);
        assert!(contains(&answer, b"SERROR\0VERROR\0C08P01\0"), "{}", bad.escape_ascii());
        stream.write_all(&message(b'Q', b"SELECT 41 + 1\0")).unwrap();
        assert!(contains(&read_answer(&mut stream), b"42"), "{}", bad.escape_ascii());
    }
    // A type that no client sends, and a length that can't be: the stream is out of step, and the connection ends.
    for bytes in [message(b'!', b"what"), message(b'p', b"late\0"), vec![b'Q', 0, 0, 0, 1]] {
        let mut stream = open();
        stream.write_all(&bytes).unwrap();
        assert!(contains(&read_answer(&mut stream), b"SFATAL\0VFATAL\0C08P01\0"), "{}", bytes.escape_ascii());
    }
    // An announced gigabyte is refused before it is read.
    let mut stream = open();
    stream.write_all(b"Q\x3f\xff\xff\xff").unwrap();
    assert!(contains(&read_answer(&mut stream), b"C54000\0"));
    // A deep expression and a long statement.
    let mut stream = open();
    let deep = format!("SELECT {}1{}\0", "(".repeat(100_000), ")".repeat(100_000));
    stream.write_all(&message(b'Q', deep.as_bytes())).unwrap();
    assert!(contains(&read_answer(&mut stream), b"C54001\0"));
    let long = format!("SELECT length('{}')\0", "x".repeat(8 << 20));
    stream.write_all(&message(b'Q', long.as_bytes())).unwrap();
    assert!(contains(&read_answer(&mut stream), b"8388608"));
}

/// Statements that grow with a count: how deep a tree they make says nothing about their length.
fn deep_statements() -> Vec<(&'static str, String)> {
    let list = |n: usize, item: &dyn Fn(usize) -> String, between: &str| {
        (0..n).map(item).collect::<Vec<_>>().join(between)
    };
    let nest = |n: usize, open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(n), close.repeat(n))
    };
    let mut all = Vec::new();
    for n in [200, 400, 3_900] {
        all.extend([
            ("sum", format!("SELECT a{} FROM deep", " + a".repeat(n))),
            ("sum in WHERE", format!("SELECT 1 FROM deep WHERE a{} > 0", " + a".repeat(n))),
            ("text", format!("SELECT c{} FROM deep", " || c".repeat(n))),
            ("casts", format!("SELECT a{} FROM deep", "::bigint::int".repeat(n / 2))),
            ("not null", format!("SELECT a{} FROM deep", " NOTNULL".repeat(5 * n))),
            ("in", format!("SELECT b{} FROM deep", " IN (true)".repeat(5 * n))),
            ("ilike", format!("SELECT c{} FROM deep", " ILIKE c".repeat(n))),
            ("array types", format!("SELECT '{{}}'::int{}", "[]".repeat(5 * n))),
            ("is null", format!("SELECT a{} FROM deep", " IS NULL".repeat(n))),
            ("unions", format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(n))),
            ("distinct unions", format!("SELECT a FROM deep{}", " UNION SELECT a FROM deep".repeat(n))),
            ("items", format!("SELECT 1 FROM {}", list(n, &|i| format!("deep d{i}"), ", "))),
            (
                "series",
                format!("SELECT 1 FROM {}", list(n, &|i| format!("generate_series(1, 1) g{i}"), ", ")),
            ),
            (
                "joins",
                format!(
                    "SELECT 1 FROM deep {}",
                    list(n, &|i| format!("JOIN deep d{i} ON d{i}.a = 1 AND true"), " ")
                ),
            ),
            (
                "lateral",
                format!(
                    "SELECT 1 FROM deep d0{}",
                    list(n, &|i| format!(", LATERAL (SELECT d{i}.a) d{}", i + 1), "")
                ),
            ),
            (
                "conditions",
                format!("SELECT 1 FROM deep WHERE {}", list(5 * n, &|i| format!("a = {i} AND b"), " OR ")),
            ),
            (
                "with",
                format!(
                    "WITH c0 AS (SELECT 1 AS a){} SELECT * FROM c{n}",
                    list(n, &|i| format!(", c{} AS (SELECT a FROM c{i})", i + 1), "")
                ),
            ),
            (
                "arms",
                format!("SELECT CASE {} END FROM deep", list(n, &|i| format!("WHEN a = {i} THEN {i}"), " ")),
            ),
            ("columns", format!("SELECT {} FROM deep", list(n, &|i| format!("a AS c{i}"), ", "))),
            ("names", format!("SELECT {} FROM deep", "x".repeat(100 * n))),
        ]);
    }
    for n in [90, 240, 5_000] {
        all.extend([
            ("parentheses", format!("SELECT {} FROM deep", nest(n, "(", "a", ")"))),
            ("calls", format!("SELECT {} FROM deep", nest(n, "abs(", "a", ")"))),
            ("cases", format!("SELECT {} FROM deep", nest(n, "CASE WHEN b THEN a ELSE ", "1", " END"))),
            ("not", format!("SELECT {}b FROM deep", "NOT ".repeat(n))),
            ("subqueries", format!("SELECT {}", nest(n, "(SELECT a + ", "1", " FROM deep)"))),
            (
                "exists",
                format!(
                    "SELECT 1 FROM deep WHERE {}",
                    nest(n, "EXISTS (SELECT 1 FROM deep WHERE ", "b", ")")
                ),
            ),
            ("derived", format!("SELECT * FROM {}", nest(n, "(SELECT * FROM ", "deep", ") x"))),
            ("arrays", format!("SELECT '{}'::int[]", nest(n, "{", "1", "}"))),
            ("brackets", format!("SELECT {}", nest(n, "[", "", "]"))),
            ("patterns", format!("SELECT 'a' ~ '{}'", nest(n, "(", "a", ")"))),
            ("comments", format!("SELECT {} 1", nest(n, "/*", "", "*/"))),
        ]);
    }
    all
}

/// Whatever a statement's shape, it is answered, and the node that answers it lives on. In both protocols, and at once.
async fn deep_statements_are_answered(cluster: &Cluster) {
    let setup = connect(&cluster.url(0)).await.unwrap();
    let table =
        "CREATE TABLE deep (a int PRIMARY KEY, b bool, c text); INSERT INTO deep VALUES (1, true, 'x')";
    setup.batch_execute(table).await.unwrap();
    let user = |extended: bool| {
        let url = cluster.url(0);
        async move {
            let client = connect(&url).await.unwrap();
            let mut answered = 0;
            for (what, sql) in deep_statements() {
                let result = if extended {
                    client.query(&sql, &[]).await.map(|_| ())
                } else {
                    client.simple_query(&sql).await.map(|_| ())
                };
                let code = result.as_ref().err().map(|e| e.code().map(|c| c.code().to_owned()));
                match code.as_ref().map(Option::as_deref) {
                    None => answered += 1,
                    // Too deep, too many, too long a name to be known, or nonsense.
                    Some(Some(
                        "54001" | "54011" | "54000" | "42703" | "42601" | "22P02" | "2201B" | "42804"
                        | "42883" | "42P18",
                    )) => {}
                    Some(_) => panic!("{what}, {} bytes: {:?}", sql.len(), result.err()),
                }
            }
            answered
        }
    };
    let (simple, extended, other) = tokio::join!(user(false), user(true), user(false));
    assert!(simple > 40 && simple == extended && simple == other, "{simple} {extended} {other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_and_many_connections() {
    let cluster = Cluster::start(ClusterKind::Demo, "bad-input").await;
    bad_input_leaves_others_alone(&cluster);
    deep_statements_are_answered(&cluster).await;
    // Ten thousand connections in all, a thousand at a time; each either works or is refused with 53300.
    let (mut served, mut refused) = (0, 0);
    for _ in 0..10 {
        let attempts = (0..1_000).map(|i| {
            let url = cluster.url(i % 3);
            tokio::spawn(async move {
                match connect(&url).await {
                    Ok(client) => client.simple_query("SELECT 1").await.map(|_| true),
                    Err(error) if error.code().is_some_and(|c| c.code() == "53300") => Ok(false),
                    Err(error) => Err(error),
                }
            })
        });
        for attempt in attempts.collect::<Vec<_>>() {
            match attempt.await.unwrap() {
                Ok(true) => served += 1,
                Ok(false) => refused += 1,
                Err(error) => panic!("a connection failed: {error}"),
            }
        }
    }
    assert_eq!(served + refused, 10_000);
    assert!(served > 0, "nobody was served");
    let client = connect(&cluster.url(0)).await.unwrap();
    assert_eq!(single_i64(&client, "SELECT 1::bigint").await.unwrap(), 1);
}
