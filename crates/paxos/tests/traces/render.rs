//! One line per thing that happens.

use meridian_paxos::{Command, LeaseRequest, LogEntry, MemberKind, Membership, Message, Persist, RoleChange};
use meridian_types::{NodeId, Timestamp};

pub(crate) fn ms(t: Timestamp) -> String {
    if t == Timestamp::MAX { "never".into() } else { format!("{}", t.as_nanos() / 1_000_000) }
}

pub(crate) fn membership(m: &Membership) -> String {
    let members = m.members.iter().map(|(node, kind)| match kind {
        MemberKind::Voter => format!("n{node}"),
        MemberKind::ReadOnly => format!("n{node}:readonly"),
        MemberKind::Witness => format!("n{node}:witness"),
        MemberKind::Observer => format!("n{node}:observer"),
    });
    members.collect::<Vec<_>>().join(" ")
}

pub(crate) fn command(c: &Command) -> String {
    match c {
        Command::Noop => "noop".into(),
        Command::Normal(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Command::Membership(m) => format!("members({})", membership(m)),
    }
}

fn entries(entries: &[LogEntry]) -> String {
    let each = entries.iter().map(|e| format!("{}={}@{}", e.slot, command(&e.command), e.ballot));
    format!("[{}]", each.collect::<Vec<_>>().join(" "))
}

fn lease(request: &Option<LeaseRequest>) -> String {
    request.map_or(String::new(), |r| format!(" asks lease from {}", ms(r.leader_earliest)))
}

pub(crate) fn message(m: &Message) -> String {
    match m {
        Message::Prepare { ballot, from_slot, lease } if lease.length.as_nanos() == 0 => {
            format!("Canvass {ballot} from {from_slot}")
        }
        Message::Prepare { ballot, from_slot, lease: l } => {
            format!("Prepare {ballot} from {from_slot}{}", lease(&Some(*l)))
        }
        Message::Promise { ballot, lease: Some(l), .. } if l.length.as_nanos() == 0 => {
            format!("Promise {ballot} in a canvass")
        }
        Message::Promise { ballot, accepted, chosen, lease } => {
            let vote = if lease.is_some() { "with vote" } else { "without vote" };
            format!("Promise {ballot} {} chosen {chosen} {vote}", entries(accepted))
        }
        Message::Refuse { ballot, promised, leader } => {
            let leader = leader.map_or("nobody".into(), |l| format!("n{l}"));
            format!("Refuse {ballot} promised {promised} leader {leader}")
        }
        Message::Accept { ballot, entries: e, commit, lease: l } => {
            format!("Accept {ballot} {} commit {commit}{}", entries(e), lease(l))
        }
        Message::Accepted { ballot, slots, chosen, lease } => {
            let slots = slots.map_or("heartbeat".into(), |(a, b)| format!("{a}..{b}"));
            let vote = if lease.is_some() { " with vote" } else { "" };
            format!("Accepted {ballot} {slots} chosen {chosen}{vote}")
        }
        Message::CatchUp { from_slot } => format!("CatchUp from {from_slot}"),
        Message::Learn { entries: e, chosen } => format!("Learn {} chosen {chosen}", entries(e)),
        Message::Known { through } => format!("Known through {through}"),
        Message::Settled { through } => format!("Settled through {through}"),
        Message::NeedSnapshot { truncated } => format!("NeedSnapshot truncated {truncated}"),
        Message::HandOver { ballot, floor, commit } => {
            format!("HandOver {ballot} floor {} commit {commit}", ms(*floor))
        }
        Message::ReleaseVote { ballot, successor } => format!("ReleaseVote {ballot} for n{successor}"),
    }
}

pub(crate) fn persist(p: &Persist) -> String {
    match p {
        Persist::HardState(h) => {
            let vote = h.vote.map_or("none".into(), |(b, end)| format!("{b} until {}", ms(end)));
            format!("writes promise {} vote {vote} commit {}", h.promised, h.commit)
        }
        Persist::Entries(e) => format!("writes {}", entries(e)),
        Persist::Truncate(slot) => format!("truncates through {slot}"),
    }
}

pub(crate) fn role(change: &RoleChange) -> String {
    match change {
        RoleChange::Leading { ballot, ready_at, floor } => {
            format!("LEADS {ballot} ready at {ready_at} above {}", ms(*floor))
        }
        RoleChange::Following { leader } => {
            format!("FOLLOWS {}", leader.map_or("nobody".into(), |l: NodeId| format!("n{l}")))
        }
    }
}
