//! What operators type, and what keeps strangers out.

use std::process::Command;

use meridian_sql_tests::{Cluster, ClusterKind, meridian_binary};

/// Wrong flags, a taken port, a locked and a foreign data folder: one line, exit status 1 (2 for usage).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_refuses_what_it_must() {
    let cluster = Cluster::start(ClusterKind::Processes, "refuse").await;
    let run = |args: &[String]| {
        let out = Command::new(meridian_binary()).args(args).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let strings = |args: &[&str]| args.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(run(&strings(&["start", "--nonsense"])).0, Some(2));
    assert_eq!(run(&strings(&["demo", "--nodes", "0"])).0, Some(2));
    // The same command line again: its folder is locked and its ports are taken.
    let (code, stderr) = run(cluster.command(0));
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(stderr.trim().lines().filter(|l| l.starts_with("meridian: ")).count(), 1, "{stderr}");
    // A file where the folder should be.
    let file = cluster.data().join("a-file");
    std::fs::write(&file, "x").unwrap();
    let mut command = cluster.command(0).to_vec();
    let data = command.iter().position(|a| a == "--data").unwrap() + 1;
    command[data] = file.display().to_string();
    assert_eq!(run(&command).0, Some(1));
}

/// What a psql user types first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_backslash_commands() {
    if Command::new("psql").arg("--version").output().is_err() {
        println!("skipped: psql is not installed");
        return;
    }
    let cluster = Cluster::start(ClusterKind::Demo, "psql").await;
    let psql = |command: &str| {
        let out = Command::new("psql")
            .args(["-h", "127.0.0.1", "-U", "root", "-d", "defaultdb", "-X", "-v", "ON_ERROR_STOP=1"])
            .args(["-p", &cluster.pg_port(0).to_string(), "-c", command])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{command}: {text}{}", String::from_utf8_lossy(&out.stderr));
        text
    };
    psql(
        "CREATE TABLE person (id int PRIMARY KEY, name text NOT NULL, mail varchar(50) UNIQUE, age int DEFAULT 7 CHECK (age > 0))",
    );
    psql("CREATE INDEX person_name ON person (name)");
    let describe = psql("\\d person");
    for part in [
        "Table \"public.person\"",
        "id     | integer               |           | not null | ",
        "name   | text                  |           | not null | ",
        "mail   | character varying(50) |           |          | ",
        "\"person_pkey\" PRIMARY KEY, btree (id)",
        "\"person_mail_key\" UNIQUE CONSTRAINT, btree (mail)",
        "\"person_name\" btree (name)",
        "\"person_age_check\" CHECK (age > 0)",
    ] {
        assert!(describe.contains(part), "no {part:?} in\n{describe}");
    }
    assert!(psql("\\dt").contains("public | person | table | root"));
    let indexes = psql("\\di");
    assert!(indexes.contains("public | person_pkey     | index | root  | person"), "{indexes}");
    assert!(psql("\\l").contains("defaultdb"));
    assert!(psql("\\du").contains("root"));
    assert!(psql("\\dn").contains("public"));
    assert!(psql("\\d").contains("person"));
}

/// With certificates: who is let in where, and that nobody else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_passwords_keep_strangers_out() {
    if Command::new("psql").arg("--version").output().is_err() {
        println!("skipped: psql is not installed");
        return;
    }
    let mut cluster = Cluster::start(ClusterKind::Secure, "secure").await;
    let certs = cluster.certs().display().to_string();
    let psql = |node: usize, user: &str, more: &str, password: &str, sql: &str| {
        let target = format!(
            "host=localhost port={} dbname=defaultdb user={user} sslrootcert={certs}/ca.crt {more}",
            cluster.pg_port(node)
        );
        let out = Command::new("psql")
            .args(["-X", "-w", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, &target])
            .env("PGPASSWORD", password)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        if out.status.success() {
            Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
        } else {
            Err(error)
        }
    };
    let verified = "sslmode=verify-full";
    let holder = |user: &str| {
        format!("sslmode=verify-full sslcert={certs}/client.{user}.crt sslkey={certs}/client.{user}.key")
    };
    let refused = |result: Result<String, String>, why: &str| {
        let error = result.expect_err(why);
        assert!(error.contains(why), "expected {why:?}, got {error}");
    };
    // Nobody has a password at first: root comes with a certificate, and gives out passwords.
    refused(
        psql(0, "root", verified, "guess", "SELECT 1"),
        "password authentication failed for user \"root\"",
    );
    let made = psql(0, "root", &holder("root"), "", "CREATE USER ann SUPERUSER PASSWORD 'pencil'");
    assert_eq!(made.as_deref(), Ok("CREATE ROLE"));
    psql(1, "root", &holder("root"), "", "ALTER USER root PASSWORD 'geheim'").unwrap();
    psql(1, "root", &holder("root"), "", "CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (7)")
        .unwrap();
    // Passwords count on every node, bound to the channel.
    let bound = "sslmode=verify-full channel_binding=require";
    assert_eq!(psql(2, "root", bound, "geheim", "SELECT current_user").as_deref(), Ok("root"));
    assert_eq!(psql(2, "ann", bound, "pencil", "SELECT a FROM t").as_deref(), Ok("7"));
    refused(
        psql(0, "ann", verified, "geheim", "SELECT 1"),
        "password authentication failed for user \"ann\"",
    );
    refused(
        psql(0, "bob", verified, "geheim", "SELECT 1"),
        "password authentication failed for user \"bob\"",
    );
    // A certificate is good for its own user only.
    assert_eq!(psql(0, "ann", &holder("ann"), "", "SELECT current_user").as_deref(), Ok("ann"));
    refused(psql(0, "root", &holder("ann"), "pencil", "SELECT 1"), "password authentication failed");
    refused(psql(0, "root", "sslmode=disable", "geheim", "SELECT 1"), "encrypted connections only");
    // Operators and peers: with certificates of the right names only.
    let status = |certs: Option<&str>| {
        let mut args = vec!["status".to_owned(), "--json".into(), "--host".into(), cluster.host(0)];
        args.extend(certs.iter().flat_map(|dir| ["--certs".to_owned(), (*dir).to_owned()]));
        Command::new(meridian_binary()).args(args).output().unwrap()
    };
    assert!(status(Some(&certs)).status.success());
    assert!(!status(None).status.success(), "a stranger was answered");
    let anns = cluster.data().join("anns");
    std::fs::create_dir(&anns).unwrap();
    for (from, to) in [("ca.crt", "ca.crt"), ("client.ann.crt", "node.crt"), ("client.ann.key", "node.key")] {
        std::fs::copy(cluster.certs().join(from), anns.join(to)).unwrap();
    }
    let ann = status(Some(&anns.display().to_string()));
    let error = String::from_utf8_lossy(&ann.stderr).into_owned();
    assert!(!ann.status.success() && error.contains("may not do this"), "{error}");
    // A node does not start with the certificate of a user, nor with a key that others can read.
    let start = |dir: &std::path::Path| {
        let mut command = cluster.command(0).to_vec();
        let at = command.iter().position(|a| a == "--certs").unwrap() + 1;
        command[at] = dir.display().to_string();
        let out = Command::new(meridian_binary()).args(command).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, error) = start(&anns);
    assert!(code == Some(1) && error.contains("common name must be \"node\", but is \"ann\""), "{error}");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(anns.join("node.key"), open).unwrap();
    let (code, error) = start(&anns);
    assert!(code == Some(1) && error.contains("others can read this key"), "{error}");
    // A dropped role is out at once.
    assert_eq!(psql(0, "root", bound, "geheim", "DROP USER ann").as_deref(), Ok("DROP ROLE"));
    refused(psql(1, "ann", &holder("ann"), "", "SELECT 1"), "role \"ann\" does not exist");
    refused(psql(1, "ann", verified, "pencil", "SELECT 1"), "password authentication failed");
    // Peers find each other again.
    cluster.kill(2);
    cluster.restart(2);
    cluster.wait_ready(2).await;
}
