use super::*;

fn owner(node: u32, session: u64) -> LockOwner {
    LockOwner { holder: Holder { node: NodeId::new(node), start: Timestamp::from_nanos(7) }, session }
}

const A: (u32, u64) = (1, 1);
const B: (u32, u64) = (2, 1);
const C: (u32, u64) = (2, 2);

fn request(who: (u32, u64), is_exclusive: bool) -> LockRequest {
    let owner = owner(who.0, who.1);
    LockRequest { owner, is_exclusive, is_granted: false, number: 1, pid: 9 }
}

fn ask(lock: &mut AdvisoryLock, who: (u32, u64), is_exclusive: bool) -> bool {
    lock.request(request(who, is_exclusive))
}

fn give_up(lock: &mut AdvisoryLock, who: (u32, u64), is_exclusive: bool) {
    lock.withdraw(&request(who, is_exclusive));
}

#[test]
fn one_has_it_and_the_others_wait_in_their_order() {
    let mut lock = AdvisoryLock::default();
    assert!(ask(&mut lock, A, true));
    assert!(ask(&mut lock, A, true), "it has it already");
    assert!(!ask(&mut lock, B, true));
    assert!(!ask(&mut lock, C, true));
    give_up(&mut lock, (1, 1), true);
    assert!(!ask(&mut lock, C, true), "B was first");
    assert!(ask(&mut lock, B, true));
    give_up(&mut lock, (2, 2), true);
    give_up(&mut lock, (2, 1), true);
    assert_eq!(lock.encode(), None, "nobody wants it");
}

#[test]
fn shared_locks_are_shared_and_a_writer_is_not_starved() {
    let mut lock = AdvisoryLock::default();
    assert!(ask(&mut lock, A, false) && ask(&mut lock, B, false));
    assert!(!ask(&mut lock, C, true));
    assert!(!ask(&mut lock, (3, 1), false), "the writer was first");
    assert!(!ask(&mut lock, A, true), "B reads");
    give_up(&mut lock, (2, 1), false);
    assert!(ask(&mut lock, A, true), "who has it already need not queue");
    give_up(&mut lock, (1, 1), true);
    give_up(&mut lock, (1, 1), false);
    assert!(ask(&mut lock, C, true));
}

#[test]
fn what_is_given_up_late_takes_no_later_request_with_it() {
    let mut lock = AdvisoryLock::default();
    assert!(ask(&mut lock, A, true));
    // A gave it up, which the store has not heard of yet, and asks for it again.
    let again = LockRequest { number: 2, ..request(A, true) };
    assert!(lock.request(again));
    give_up(&mut lock, A, true);
    assert!(!ask(&mut lock, B, true), "A has it again");
    lock.withdraw(&again);
    assert!(ask(&mut lock, B, true));
}

#[test]
fn what_belongs_to_a_dead_node_is_forgotten() {
    let mut lock = AdvisoryLock::default();
    assert!(ask(&mut lock, B, true));
    assert!(!ask(&mut lock, C, true) && !ask(&mut lock, A, true));
    lock.retain(|holder| holder.node.get() != 2);
    assert!(ask(&mut lock, A, true));
    assert_eq!(lock.requests().len(), 1);
}

#[test]
fn the_greatest_in_a_circle_gives_up() {
    let (mut one, mut two) = (AdvisoryLock::default(), AdvisoryLock::default());
    assert!(ask(&mut one, A, true) && ask(&mut two, B, true));
    assert!(!ask(&mut one, B, true));
    let locks = [one.clone(), two.clone()];
    assert!(!must_give_up(owner(2, 1), &locks), "A does not wait");
    assert!(!ask(&mut two, A, true) && !ask(&mut two, C, true));
    let locks = [one, two];
    assert!(must_give_up(owner(2, 1), &locks));
    assert!(!must_give_up(owner(1, 1), &locks), "the other one does");
    assert!(!must_give_up(owner(2, 2), &locks), "it waits for the circle, and is not in it");
}

#[test]
fn records_are_read_as_they_were_written() {
    let mut lock = AdvisoryLock::default();
    ask(&mut lock, A, false);
    ask(&mut lock, C, true);
    let row = lock.encode().unwrap();
    assert_eq!(AdvisoryLock::decode(Some(&row)), Ok(lock));
    assert_eq!(AdvisoryLock::decode(None), Ok(AdvisoryLock::default()));
    assert_eq!(decode_lease(&encode_lease(Timestamp::from_nanos(77))), Timestamp::from_nanos(77));
    assert_eq!(decode_lease(b"?"), Timestamp::ZERO);
}
