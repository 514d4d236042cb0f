//! Which cycles there are, by Adya's classes.

use crate::anomaly::{Cycle, CycleKind, Dependency, Edge};
use crate::graph::{Graph, Kinds, Node};
use crate::search::{Search, Step};

/// Cycles compared for each class and component.
const CANDIDATES: usize = 64;

/// Cycles reported for each class.
const REPORTED: usize = 8;

/// Edges that the searches for short cycles may look at. That there is a cycle is known before they begin; the budget
/// bounds how long it takes to find one that is pleasant to read.
const BUDGET: u64 = 400_000_000;

/// A class: a cycle that takes one step of `through` and goes on over `along`.
struct Class {
    through: Kinds,
    along: Kinds,
    needs_real_time: bool,
}

const WRITES: Kinds = Kinds::WW.and(Kinds::WR);
const ALL: Kinds = WRITES.and(Kinds::RW);
const ANTI: Kinds = Kinds::RW.and(Kinds::RW_IN_TIME);
const ALL_IN_TIME: Kinds = ALL.and(Kinds::RT).and(Kinds::WW_IN_TIME).and(Kinds::RW_IN_TIME);

/// From the worst; the last ones are the weakest evidence.
const CLASSES: [Class; 9] = [
    Class { through: Kinds::WW, along: Kinds::WW, needs_real_time: false },
    Class { through: Kinds::WR, along: WRITES, needs_real_time: false },
    Class { through: Kinds::RW, along: WRITES, needs_real_time: false },
    Class { through: Kinds::RW, along: ALL, needs_real_time: false },
    Class { through: Kinds::WW, along: Kinds::WW.and(Kinds::RT), needs_real_time: true },
    Class { through: Kinds::WR, along: WRITES.and(Kinds::RT), needs_real_time: true },
    Class { through: ANTI, along: WRITES.and(Kinds::RT), needs_real_time: true },
    Class {
        through: Kinds::WW_IN_TIME,
        along: WRITES.and(Kinds::RT).and(Kinds::WW_IN_TIME),
        needs_real_time: true,
    },
    Class { through: ANTI, along: ALL_IN_TIME, needs_real_time: true },
];

/// The cycles of a graph: none exactly when it has none.
pub(crate) fn cycles(graph: &Graph) -> Vec<Cycle> {
    let whole = graph.components(ALL_IN_TIME);
    let mut found: Vec<Cycle> = Vec::new();
    if whole.cyclic.is_empty() {
        return found;
    }
    let mut search = Search::new(graph, BUDGET);
    // Components of the whole graph whose cycles have been explained by a worse class.
    let mut explained = std::collections::BTreeSet::new();
    for class in &CLASSES {
        let components = graph.components(class.through.and(class.along));
        let mut of_class: Vec<Cycle> = Vec::new();
        for members in &components.cyclic {
            let component = whole.of(members[0]);
            if class.needs_real_time && explained.contains(&component) {
                continue;
            }
            let steps = members.iter().filter(|n| graph.is_transaction(**n)).flat_map(|from| {
                graph.steps(*from, class.through).map(move |(to, dependency)| (*from, to, dependency))
            });
            let mut best: Option<Vec<Step>> = None;
            let inside = steps.filter(|(from, to, _)| components.together(*from, *to));
            let mut tried = 0;
            for (from, to, dependency) in inside {
                let first = (crate::TxnIndex(from.0), dependency);
                if let Some(steps) = search.cycle(first, to, class.along, &components) {
                    tried += 1;
                    if is_of(class, &steps) && best.as_ref().is_none_or(|b| steps.len() < b.len()) {
                        best = Some(steps);
                    }
                }
                if tried >= CANDIDATES || best.as_ref().is_some_and(|b| b.len() == 2) {
                    break;
                }
            }
            if let Some(steps) = best {
                explained.insert(component);
                of_class.push(cycle(&steps));
            }
        }
        of_class.sort_by_key(|c| c.edges.len());
        of_class.truncate(REPORTED);
        found.extend(of_class);
    }
    if found.is_empty() {
        found.push(any_cycle(graph, &whole.cyclic[0]));
    }
    found
}

/// A longer way may exist for a class although the shortest cycle belongs to a worse one.
fn is_of(class: &Class, steps: &[Step]) -> bool {
    let anti = steps.iter().filter(|(_, d)| d.is_anti()).count();
    let of_time = steps.iter().any(|(_, d)| d.is_of_time());
    let several = class.through.has_all(Kinds::RW) && class.along.has_all(Kinds::RW);
    of_time == class.needs_real_time && (anti > 1) == several
}

/// When the budget was spent before a class was settled: any cycle of the component, by walking until a transaction
/// comes again.
fn any_cycle(graph: &Graph, members: &[Node]) -> Cycle {
    let components = graph.components(ALL_IN_TIME);
    let mut search = Search::new(graph, u64::MAX);
    let kinds = ALL_IN_TIME;
    for from in members.iter().filter(|n| graph.is_transaction(**n)) {
        for (to, dependency) in graph.steps(*from, kinds).filter(|(to, _)| components.together(*from, *to)) {
            if let Some(steps) = search.cycle((crate::TxnIndex(from.0), dependency), to, kinds, &components) {
                return cycle(&steps);
            }
        }
    }
    unreachable!("every edge inside of a component is on a cycle")
}

fn cycle(steps: &[Step]) -> Cycle {
    let next = steps.iter().cycle().skip(1);
    let edges: Vec<Edge> = steps
        .iter()
        .zip(next)
        .map(|((from, dependency), (to, _))| Edge { from: *from, to: *to, dependency: *dependency })
        .collect();
    let is_anti = |e: &Edge| e.dependency.is_anti();
    let anti = edges.iter().filter(|e| is_anti(e)).count();
    let neighbours = edges.iter().zip(edges.iter().cycle().skip(1));
    let adjacent = neighbours.into_iter().any(|(a, b)| is_anti(a) && is_anti(b));
    let reads = edges.iter().any(|e| matches!(e.dependency, Dependency::WriteRead(_)));
    let kind = match (anti, adjacent, reads) {
        (0, _, false) => CycleKind::G0,
        (0, _, true) => CycleKind::G1c,
        (1, ..) => CycleKind::GSingle,
        (_, false, _) => CycleKind::GNonadjacent,
        (_, true, _) => CycleKind::G2Item,
    };
    Cycle { kind, needs_real_time: edges.iter().any(|e| e.dependency.is_of_time()), edges }
}
