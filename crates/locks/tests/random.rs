//! Random requests against the table's invariants, and against the one promise that no trace can show: everybody who
//! waits is granted in the end when pinned and older transactions finish.

use std::collections::BTreeSet;

use meridian_locks::{Acquired, Discipline, Event, LockTable, Mode, Need, Target, Ticket};
use meridian_types::{Key, NodeId, SeededRng, Span, Timestamp, TxnId};

fn txn(age: u64) -> TxnId {
    TxnId { first_start: Timestamp::from_nanos(age), node: NodeId::new(1), seq: 0 }
}

fn key(n: u64) -> Key {
    Key::copy_from(&[b'a' + n as u8])
}

fn need(rng: &mut SeededRng) -> Need {
    let mode = if rng.chance(1, 2) { Mode::Shared } else { Mode::Exclusive };
    let start = rng.below(8);
    let target = if rng.chance(2, 3) {
        Target::Point(key(start))
    } else {
        let end = (!rng.chance(1, 6)).then(|| key(start + rng.below(5)));
        Target::Span(Span::new(key(start), end))
    };
    Need { target, mode }
}

struct World {
    table: LockTable,
    waiting: BTreeSet<(TxnId, Ticket)>,
    pinned: BTreeSet<TxnId>,
    preparing: BTreeSet<Ticket>,
}

impl World {
    fn absorb(&mut self, events: &mut Vec<Event>) {
        for event in events.drain(..) {
            match event {
                Event::Granted(t) | Event::WouldDeadlock(t) => {
                    let entry = self.waiting.iter().copied().find(|(_, ticket)| *ticket == t);
                    let entry = entry.expect("only waiters are answered by events");
                    self.waiting.remove(&entry);
                    let granted = matches!(event, Event::Granted(_));
                    if granted && self.preparing.contains(&t) {
                        self.pinned.insert(entry.0);
                    }
                }
                Event::Wounded { txn, by, tickets } => {
                    assert!(by.is_older_than(&txn), "{by} wounded the older {txn}");
                    assert!(!self.pinned.contains(&txn), "pinned {txn} was wounded");
                    for ticket in tickets {
                        assert!(self.waiting.remove(&(txn, ticket)), "{ticket:?} did not wait");
                    }
                }
            }
        }
        self.table.check_invariants();
    }

    fn finish(&mut self, txn: TxnId) {
        let mut events = Vec::new();
        for ticket in self.table.release(txn, &mut events) {
            self.waiting.remove(&(txn, ticket));
        }
        self.pinned.remove(&txn);
        self.absorb(&mut events);
    }
}

fn step(world: &mut World, rng: &mut SeededRng, ticket: &mut u64) {
    let who = txn(1 + rng.below(10));
    let waits = world.waiting.iter().any(|(t, _)| *t == who);
    let prepares = world.waiting.iter().any(|(t, k)| *t == who && world.preparing.contains(k));
    if world.pinned.contains(&who) || prepares || rng.chance(1, 6) {
        return world.finish(who);
    }
    if rng.chance(1, 8) && !waits {
        world.table.pin(who);
        world.pinned.insert(who);
        return;
    }
    *ticket += 1;
    let needs = (0..1 + rng.below(3)).map(|_| need(rng)).collect();
    let discipline = match rng.below(6) {
        0 => Discipline::NoWait,
        1 if !waits => Discipline::Prepare,
        _ => Discipline::WoundWait,
    };
    if discipline == Discipline::Prepare {
        world.preparing.insert(Ticket(*ticket));
    }
    let mut events = Vec::new();
    let answer = world.table.acquire(Ticket(*ticket), who, needs, discipline, &mut events);
    if answer == Acquired::Waiting {
        world.waiting.insert((who, Ticket(*ticket)));
    }
    if answer == Acquired::Granted && discipline == Discipline::Prepare {
        world.pinned.insert(who);
    }
    world.absorb(&mut events);
}

#[test]
fn random_requests_keep_the_invariants_and_nobody_waits_forever() {
    for seed in 0..400 {
        let mut rng = SeededRng::new(seed);
        let mut world = World {
            table: LockTable::new(),
            waiting: BTreeSet::new(),
            pinned: BTreeSet::new(),
            preparing: BTreeSet::new(),
        };
        let mut ticket = 0;
        for _ in 0..120 {
            step(&mut world, &mut rng, &mut ticket);
        }
        let everybody: Vec<TxnId> = (1..=10).map(txn).collect();
        for who in everybody {
            world.finish(who);
        }
        assert!(world.waiting.is_empty(), "seed {seed}: {:?} wait forever", world.waiting);
        assert!(world.table.views().is_empty(), "seed {seed}: locks are left over");
    }
}
