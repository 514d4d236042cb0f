//! Real clusters as child processes on loopback.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

use crate::network::Network;

/// Where the server under test is: beside the test's own artefacts, or where `MERIDIAN_BIN` says.
pub fn meridian_binary() -> PathBuf {
    if let Ok(path) = std::env::var("MERIDIAN_BIN") {
        return path.into();
    }
    let exe = std::env::current_exe().unwrap();
    let profile = exe.ancestors().find(|dir| dir.join("meridian").is_file());
    profile.expect("build the binary first: cargo build --release --bin meridian").join("meridian")
}

/// Connects with tokio-postgres and drives the connection in the background.
pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move {
        // An error here reaches the client as a failed call.
        let _ = connection.await;
    });
    Ok(client)
}

/// Polls `check` until it holds.
///
/// # Panics
/// When it does not within `limit`, naming `what`.
pub async fn eventually<F, Fut>(what: &str, limit: Duration, mut check: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let start = Instant::now();
    while !check().await {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How the nodes run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClusterKind {
    /// `meridian demo`: all nodes in one process.
    Demo,
    /// `meridian start` for each node, and time masters as processes of their own.
    Processes,
    /// The same with certificates everywhere.
    Secure,
}

/// A three-node cluster. Ends its processes when dropped.
pub struct Cluster {
    children: Vec<Option<Child>>,
    commands: Vec<Vec<String>>,
    pg_ports: Vec<u16>,
    http_ports: Vec<u16>,
    data: PathBuf,
    certs: Option<PathBuf>,
    /// Where each node is in a namespace of its own.
    network: Option<Network>,
}

const NODES: usize = 3;

impl Cluster {
    /// Starts a cluster and waits until every node serves SQL.
    pub async fn start(kind: ClusterKind, name: &str) -> Cluster {
        Self::start_in(kind, &new_folder(name)).await
    }

    /// The same with its data in a folder that is there.
    pub async fn start_in(kind: ClusterKind, data: &Path) -> Cluster {
        let data = data.to_path_buf();
        let mut cluster = match kind {
            ClusterKind::Demo => Self::demo(data),
            ClusterKind::Processes => Self::processes(data, None, None),
            ClusterKind::Secure => {
                let certs = data.join("certs");
                make_certificates(&certs);
                Self::processes(data, Some(certs), None)
            }
        };
        cluster.begin(kind != ClusterKind::Demo).await;
        cluster
    }

    /// A cluster of processes whose nodes are in network namespaces of their own, so that the ways between them can be
    /// cut. Where there can be none, a line says why.
    pub async fn start_apart(name: &str) -> Option<Cluster> {
        let network = match Network::create(NODES) {
            Ok(network) => network,
            Err(error) => {
                // Not by a macro, whose output tests that pass do not show.
                let line = format!("skipped: no network namespaces can be made here (needs root): {error}\n");
                std::io::stderr().write_all(line.as_bytes()).unwrap();
                return None;
            }
        };
        let mut cluster = Self::processes(new_folder(name), None, Some(network));
        cluster.begin(true).await;
        Some(cluster)
    }

    async fn begin(&mut self, is_new: bool) {
        for i in 0..self.commands.len() {
            self.restart(i);
        }
        if is_new {
            self.init().await;
        }
        for node in 0..NODES {
            self.wait_ready(node).await;
        }
    }

    fn demo(data: PathBuf) -> Cluster {
        let pg = consecutive_ports(NODES);
        let http = consecutive_ports(NODES);
        let command = vec![
            "demo".into(),
            "--pg-port".into(),
            pg[0].to_string(),
            "--http-port".into(),
            http[0].to_string(),
            "--data".into(),
            data.join("demo").display().to_string(),
        ];
        Cluster {
            children: vec![None],
            commands: vec![command],
            pg_ports: pg,
            http_ports: http,
            data,
            certs: None,
            network: None,
        }
    }

    fn processes(data: PathBuf, certs: Option<PathBuf>, network: Option<Network>) -> Cluster {
        let (pg, http) = (consecutive_ports(NODES), consecutive_ports(NODES));
        let (rpc, masters) = (consecutive_ports(NODES), consecutive_ports(NODES));
        let host = |node| network.as_ref().map_or(Ipv4Addr::LOCALHOST, |n| n.node(node));
        let outside = network.as_ref().map_or(Ipv4Addr::LOCALHOST, Network::outside);
        let join: Vec<String> = (0..NODES).map(|i| format!("{}:{}", host(i), rpc[i])).collect();
        let scheme = if certs.is_some() { "https://" } else { "" };
        let time = |port: &u16| format!("{scheme}{outside}:{port}");
        let mut commands = Vec::new();
        for i in 0..NODES {
            let flags = [
                ("--data", data.join(format!("n{}", i + 1)).display().to_string()),
                ("--listen", format!("{}:{}", host(i), rpc[i])),
                ("--pg", format!("{}:{}", host(i), pg[i])),
                ("--http", format!("{}:{}", host(i), http[i])),
                ("--join", join.join(",")),
                ("--time-masters", masters.iter().map(time).collect::<Vec<_>>().join(",")),
            ];
            let mut command = vec!["start".to_string()];
            command.extend(certs.as_deref().map_or(vec!["--insecure".into()], certs_flag));
            command.extend(flags.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]));
            commands.push(command);
        }
        for port in &masters {
            let mut command = vec!["time-master".into(), "--listen".into(), format!("{outside}:{port}")];
            command.extend(certs.as_deref().map(certs_flag).unwrap_or_default());
            commands.push(command);
        }
        let children = commands.iter().map(|_| None).collect();
        Cluster { children, commands, pg_ports: pg, http_ports: http, data, certs, network }
    }

    async fn init(&mut self) {
        let mut args = vec!["init".to_string(), "--host".into(), self.host(0)];
        args.extend(self.certs.as_deref().map(certs_flag).unwrap_or_default());
        eventually("init", Duration::from_secs(30), || {
            let args = args.clone();
            async move { Command::new(meridian_binary()).args(args).output().unwrap().status.success() }
        })
        .await;
    }

    /// The folder of certificates of a secure cluster.
    pub fn certs(&self) -> &Path {
        self.certs.as_deref().expect("the cluster has certificates")
    }

    /// The address of node `node` (from 0) for other nodes and for operators.
    pub fn host(&self, node: usize) -> String {
        let listen = self.commands[node].iter().position(|a| a == "--listen").unwrap() + 1;
        self.commands[node][listen].clone()
    }

    /// `meridian node drain` of node `node` (from 0): whether it says that nothing is led there any more.
    pub async fn drain(&self, node: usize) -> bool {
        let host = self.host(node);
        let drain = move || Command::new(meridian_binary()).args(["node", "drain", "--host", &host]).status();
        tokio::task::spawn_blocking(drain).await.unwrap().unwrap().success()
    }

    /// `meridian node decommission` of the node with this id, asked at node `at` (from 0): what it prints, or the error.
    pub async fn decommission(&self, at: usize, id: u32) -> Result<String, String> {
        let args = ["node", "decommission", "--host", &self.host(at), "--node", &id.to_string()];
        let mut command = Command::new(meridian_binary());
        command.args(args);
        let out = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
    }

    /// Starts one more node, which joins; its number, which is that of its process, is not its id.
    pub fn add_node(&mut self) -> usize {
        let i = self.commands.len();
        let ports = consecutive_ports(3);
        self.pg_ports.resize(i, 0);
        self.http_ports.resize(i, 0);
        self.pg_ports.push(ports[0]);
        self.http_ports.push(ports[1]);
        let mut command = self.commands[0].clone();
        let mut set = |flag: &str, value: String| {
            let at = command.iter().position(|a| a == flag).unwrap() + 1;
            command[at] = value;
        };
        set("--data", self.data.join(format!("n{}", i + 1)).display().to_string());
        set("--listen", format!("127.0.0.1:{}", ports[2]));
        set("--pg", format!("127.0.0.1:{}", ports[0]));
        set("--http", format!("127.0.0.1:{}", ports[1]));
        self.commands.push(command);
        self.children.push(None);
        self.restart(i);
        i
    }

    /// The exit status of process `i`, once it has ended by itself.
    pub fn ended(&mut self, i: usize) -> Option<i32> {
        let status = self.children[i].as_mut()?.try_wait().unwrap()?;
        self.children[i] = None;
        Some(status.code().unwrap_or(-1))
    }

    /// Waits until node `node` (from 0) answers SQL.
    pub async fn wait_ready(&self, node: usize) {
        if self.certs.is_some() {
            let address = (self.ip(node), self.http_ports[node]);
            return eventually("node is ready", Duration::from_secs(60), || async { is_ready(address) })
                .await;
        }
        let url = self.url(node);
        eventually("node serves SQL", Duration::from_secs(60), || async {
            match connect(&url).await {
                Ok(client) => client.simple_query("SELECT 1").await.is_ok(),
                Err(_) => false,
            }
        })
        .await;
    }

    /// The connection string of node `node` (from 0).
    pub fn url(&self, node: usize) -> String {
        let (host, port) = (self.ip(node), self.pg_ports[node]);
        format!("host={host} port={port} user=root dbname=defaultdb connect_timeout=5")
    }

    fn ip(&self, node: usize) -> Ipv4Addr {
        self.network.as_ref().map_or(Ipv4Addr::LOCALHOST, |n| n.node(node))
    }

    /// The ways between the nodes, where each is in a namespace of its own.
    pub fn network(&mut self) -> Option<&mut Network> {
        self.network.as_mut()
    }

    /// The SQL port of node `node` (from 0).
    pub fn pg_port(&self, node: usize) -> u16 {
        self.pg_ports[node]
    }

    /// The HTTP port of node `node` (from 0).
    pub fn http_port(&self, node: usize) -> u16 {
        self.http_ports[node]
    }

    /// Where the nodes keep their data.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The command line of process `i`: the nodes in order, then the time masters.
    pub fn command(&self, i: usize) -> &[String] {
        &self.commands[i]
    }

    /// SIGKILL to process `i`.
    pub fn kill(&mut self, i: usize) {
        if let Some(mut child) = self.children[i].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// A signal, by its name without SIG, to process `i`, which runs.
    pub fn signal(&self, i: usize, name: &str) {
        let pid = self.children[i].as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// How many shards node `node` (from 0) says that it leads; none when it does not answer.
    pub fn led_shards(&self, node: usize) -> usize {
        self.metric(node, "meridian_leaders").unwrap_or(0)
    }

    /// A metric of node `node` (from 0), by its whole name; `None` when it does not answer.
    pub fn metric(&self, node: usize, name: &str) -> Option<usize> {
        let mut stream = TcpStream::connect((self.ip(node), self.http_ports[node])).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// The data folder of node `node` (from 0).
    pub fn folder(&self, node: usize) -> PathBuf {
        let data = self.commands[node].iter().position(|a| a == "--data").unwrap() + 1;
        PathBuf::from(&self.commands[node][data])
    }

    /// What process `i` has logged so far.
    pub fn log(&self, i: usize) -> String {
        std::fs::read_to_string(self.data.join(format!("process-{i}.log"))).unwrap_or_default()
    }

    /// What `meridian init` at node `node` (from 0) prints, if it succeeds.
    pub fn init_again(&self, node: usize) -> Option<String> {
        let out =
            Command::new(meridian_binary()).args(["init", "--host", &self.host(node)]).output().unwrap();
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Starts process `i`, which must not run.
    pub fn restart(&mut self, i: usize) {
        self.restart_with(i, &[]);
    }

    /// The same with further flags, this time only.
    pub fn restart_with(&mut self, i: usize, flags: &[&str]) {
        assert!(self.children[i].is_none(), "process {i} runs already");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.data.join(format!("process-{i}.log")))
            .unwrap();
        let mut command = match &self.network {
            // Becomes the server, so that signals reach it.
            Some(network) if i < NODES => {
                let mut ip = Command::new("ip");
                ip.args(["netns", "exec", &network.namespace(i)]).arg(meridian_binary());
                ip
            }
            Some(_) | None => Command::new(meridian_binary()),
        };
        let mut child = command
            .args(&self.commands[i])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        // Drained so that the child never blocks on a full pipe.
        std::thread::spawn(move || for _ in BufReader::new(stdout).lines() {});
        self.children[i] = Some(child);
    }
}

/// An empty folder for the data of a test.
fn new_folder(name: &str) -> PathBuf {
    let data = std::env::temp_dir().join(format!("meridian-test-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&data);
    std::fs::create_dir_all(&data).unwrap();
    data
}

/// `--certs DIR`
fn certs_flag(dir: &Path) -> Vec<String> {
    vec!["--certs".into(), dir.display().to_string()]
}

/// The folder of this package: of the clone that runs the test, which need not be the one that compiled it where clones
/// share a target folder.
pub fn package_folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).into()
}

/// By the script that operators use: for nodes on this machine, for `root` and for `ann`.
fn make_certificates(dir: &Path) {
    let script = package_folder().join("../deploy/certs");
    for what in [&["ca"][..], &["node", "localhost", "127.0.0.1"], &["client", "root"], &["client", "ann"]] {
        let made = Command::new(&script).arg(dir).args(what).output().unwrap();
        assert!(made.status.success(), "{what:?}: {}", String::from_utf8_lossy(&made.stderr));
    }
}

fn is_ready(http: (Ipv4Addr, u16)) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(http)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().is_ok_and(|text| text.starts_with("HTTP/1.1 200"))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for i in 0..self.children.len() {
            self.kill(i);
        }
        if std::thread::panicking() {
            eprintln!("logs and data of the failed test are in {}", self.data.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.data);
        }
    }
}

/// `n` ports in a row that nothing listens on and no other test takes.
///
/// They lie below the ports that the system gives to outgoing connections: a server that starts later must not find
/// its port taken by somebody's client. Other test processes are kept off by a lock per block, held until this process
/// ends.
fn consecutive_ports(n: usize) -> Vec<u16> {
    const FIRST: u16 = 10_000;
    const BLOCK: u16 = 16;
    const BLOCKS: u16 = 1_400;
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    assert!(n <= usize::from(BLOCK));

    let locks = std::env::temp_dir().join("meridian-test-ports");
    std::fs::create_dir_all(&locks).unwrap();
    // Each process begins elsewhere, so that most of them find the first block free.
    let begin = (std::process::id() % u32::from(BLOCKS)) as u16;
    for block in (0..BLOCKS).map(|i| (begin + i) % BLOCKS) {
        let lock = File::create(locks.join(block.to_string())).unwrap();
        if lock.try_lock().is_err() {
            continue;
        }
        let start = FIRST + block * BLOCK;
        let ports: Vec<u16> = (start..start + n as u16).collect();
        let free: Vec<_> = ports.iter().map(|port| TcpListener::bind(("127.0.0.1", *port))).collect();
        if free.iter().all(Result::is_ok) {
            HELD.lock().unwrap().push(lock);
            return ports;
        }
    }
    panic!("no {n} free ports in a row");
}
