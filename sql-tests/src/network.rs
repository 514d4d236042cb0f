//! Nodes in network namespaces of their own, and ways between them that are cut.
//!
//! ```text
//!   root namespace                 hub                      one per node
//!   tests, time masters  ---veth--- forwards packets ---veth--- node 1
//!   198.18.K.1                      by rules         ---veth--- node 2
//!                                                    ---veth--- node 3
//! ```
//! A way from one node to another is cut by a rule of the hub that drops what it should forward: nothing is refused, nobody
//! is told, and connections that are there stay there, as when a cable is cut. Each direction has a rule of its own.
//!
//! Outside of its namespaces a network adds one interface and one route, to addresses that are reserved for tests of networks
//! (RFC 2544); both go with the namespaces. K is a number that no other test process has.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;

/// A network for so many nodes. Goes with its namespaces when dropped.
pub struct Network {
    number: u8,
    nodes: usize,
    /// The ways that are cut, from and to.
    cuts: BTreeSet<(usize, usize)>,
    /// Held while the number is ours.
    _lock: File,
}

/// Runs `ip`; what it complains about otherwise.
fn ip(args: &[&str]) -> Result<(), String> {
    let out = Command::new("ip").args(args).output().map_err(|e| format!("ip: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim()))
}

/// Runs an `ip` that has no reason to fail where namespaces can be made.
fn must(args: &[&str]) {
    ip(args).unwrap_or_else(|error| panic!("{error}"));
}

/// A number that no other test process holds.
fn lock_number() -> (u8, File) {
    let locks = std::env::temp_dir().join("meridian-test-networks");
    std::fs::create_dir_all(&locks).unwrap();
    let free = (0..=u8::MAX).find_map(|number| {
        let lock = File::create(locks.join(number.to_string())).unwrap();
        lock.try_lock().is_ok().then_some((number, lock))
    });
    free.expect("fewer than 256 networks are in use")
}

impl Network {
    /// Makes the namespaces, or says why that is not possible here: there must be a right to (root), and `ip`.
    pub fn create(nodes: usize) -> Result<Network, String> {
        let (number, lock) = lock_number();
        let network = Network { number, nodes, cuts: BTreeSet::new(), _lock: lock };
        // A process that was killed leaves them behind.
        network.remove();
        let hub = network.hub();
        ip(&["netns", "add", &hub])?;
        let (outside, inside) = (format!("meridian{number}"), "outside");
        ip(&["link", "add", &outside, "type", "veth", "peer", "name", inside, "netns", &hub])?;
        must(&["addr", "add", &format!("{}/30", network.address(0, 1)), "dev", &outside]);
        must(&["link", "set", &outside, "up"]);
        must(&["-n", &hub, "addr", "add", &format!("{}/30", network.address(0, 2)), "dev", inside]);
        must(&["-n", &hub, "link", "set", inside, "up"]);
        let all = format!("{}/24", network.address(0, 0));
        must(&["route", "add", &all, "via", &network.address(0, 2).to_string()]);
        must(&["netns", "exec", &hub, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        for node in 0..nodes {
            let (namespace, port) = (network.namespace(node), format!("node{node}"));
            let (here, gateway) = (network.node(node), network.address(node + 1, 1));
            must(&["netns", "add", &namespace]);
            must(&[
                "-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
            ]);
            must(&["-n", &hub, "addr", "add", &format!("{gateway}/30"), "dev", &port]);
            must(&["-n", &hub, "link", "set", &port, "up"]);
            must(&["-n", &namespace, "link", "set", "lo", "up"]);
            must(&["-n", &namespace, "addr", "add", &format!("{here}/30"), "dev", "eth0"]);
            must(&["-n", &namespace, "link", "set", "eth0", "up"]);
            must(&["-n", &namespace, "route", "add", "default", "via", &gateway.to_string()]);
        }
        Ok(network)
    }

    fn hub(&self) -> String {
        format!("meridian-{}-hub", self.number)
    }

    /// The namespace of a node (from 0).
    pub fn namespace(&self, node: usize) -> String {
        format!("meridian-{}-node{node}", self.number)
    }

    /// Of the `link`-th pair of interfaces, the `end`-th.
    fn address(&self, link: usize, end: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, link as u8 * 4 + end)
    }

    /// The address of a node (from 0).
    pub fn node(&self, node: usize) -> Ipv4Addr {
        self.address(node + 1, 2)
    }

    /// The address outside of the namespaces by which nodes reach what is there.
    pub fn outside(&self) -> Ipv4Addr {
        self.address(0, 1)
    }

    /// Cuts the way from one node to another.
    pub fn cut(&mut self, from: usize, to: usize) {
        if self.cuts.insert((from, to)) {
            let (source, target) = (self.node(from).to_string(), self.node(to).to_string());
            let (hub, place) = (self.hub(), place(from, to));
            must(&["-n", &hub, "rule", "add", "pref", &place, "from", &source, "to", &target, "blackhole"]);
        }
    }

    /// All ways are open again.
    pub fn heal(&mut self) {
        for (from, to) in std::mem::take(&mut self.cuts) {
            must(&["-n", &self.hub(), "rule", "del", "pref", &place(from, to)]);
        }
    }

    fn remove(&self) {
        // One that is not there is as good as one that goes.
        for namespace in (0..self.nodes).map(|node| self.namespace(node)).chain([self.hub()]) {
            let _ = ip(&["netns", "del", &namespace]);
        }
        // The kernel takes a namespace's interfaces away in its own time, and its other end with them.
        let _ = ip(&["link", "del", &format!("meridian{}", self.number)]);
    }
}

/// Where the rule that cuts a way stands among the hub's.
fn place(from: usize, to: usize) -> String {
    (1_000 + from * 16 + to).to_string()
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}
