//! The hosts of a run, and time.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_member::{number, requests};
use meridian_rpc::admin::NodeAddress;
use meridian_truetime::MasterModel;
use meridian_types::{ClusterId, GroupId, NodeId};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Runtime;

use crate::faults::UNCERTAINTY;
use crate::host::{Faces, Host, Surroundings, step, still_runtime};
use crate::network::Network;
use crate::time::Master;

/// How many time masters there are.
const MASTERS: usize = 3;

/// A cluster, and a host for its clients.
pub(crate) struct World {
    pub(crate) network: Arc<Network>,
    pub(crate) masters: Vec<Master>,
    pub(crate) faces: Faces,
    /// Where clients live.
    pub(crate) clients: Runtime,
    hosts: BTreeMap<NodeId, Host>,
    now: u64,
}

impl World {
    /// A new cluster of so many nodes, all of them started.
    pub(crate) fn new(nodes: u32, rng: &mut SmallRng) -> World {
        let address = |n: u32| NodeAddress { address: format!("node-{n}:7000"), ..NodeAddress::default() };
        let book = number((1..=nodes).map(address).collect());
        let network = Network::new(rng.random());
        let model = || Arc::new(Mutex::new(MasterModel::gps(UNCERTAINTY)));
        let masters: Vec<Master> = std::iter::repeat_with(model).take(MASTERS).collect();
        let faces = Faces::default();
        let surroundings = Surroundings {
            network: network.clone(),
            masters: masters.clone(),
            faces: faces.clone(),
            book: book.clone(),
        };
        let host = |(node, request)| (node, Host::new(request, &surroundings, rng.random()));
        let hosts: BTreeMap<NodeId, Host> =
            requests(ClusterId::new(1), &book).into_iter().map(host).collect();
        let mut world = World { network, masters, faces, clients: still_runtime(), hosts, now: 0 };
        world.hosts.values_mut().for_each(|host| host.start(0));
        world
    }

    /// Milliseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn node_ids(&self) -> Vec<NodeId> {
        self.hosts.keys().copied().collect()
    }

    pub(crate) fn host(&mut self, node: NodeId) -> &mut Host {
        self.hosts.get_mut(&node).expect("a node of this cluster")
    }

    /// Snapshots installed, and gone on with after a connection broke.
    pub(crate) fn snapshots(&self) -> (u64, u64) {
        let each = self.hosts.values().map(Host::snapshots);
        each.fold((0, 0), |(installed, resumed), (i, r)| (installed + i, resumed + r))
    }

    /// Who leads which shard.
    pub(crate) fn leaders(&self) -> BTreeMap<GroupId, NodeId> {
        let led = |(node, host): (&NodeId, &Host)| {
            let node = *node;
            let led = host.replicas().into_iter().filter(|replica| replica.is_leader);
            led.map(move |replica| (replica.descriptor.group, node)).collect::<Vec<_>>()
        };
        self.hosts.iter().flat_map(led).collect()
    }

    /// The replicas of all nodes, for whoever wants to know what a run has come to.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("after {} ms", self.now);
        for (node, host) in &self.hosts {
            for replica in host.replicas() {
                text.push_str(&format!("\nnode {node}: {replica:?}"));
            }
        }
        text
    }

    /// The next millisecond.
    pub(crate) fn step(&mut self) {
        self.now += 1;
        let mut arrivals = self.network.tick(self.now);
        for (node, host) in &mut self.hosts {
            host.step(arrivals.remove(node));
        }
        step(&self.clients);
    }
}

/// Different streams of random numbers from one seed.
pub(crate) fn stream(seed: u64, name: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(name))
}
