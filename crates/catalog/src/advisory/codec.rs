//! Advisory locks as bytes: a protobuf message whose tags are frozen.

use bytes::Bytes;
use meridian_types::{NodeId, Timestamp};
use prost::Message;

use super::{AdvisoryLock, Holder, LockOwner, LockRequest};

#[derive(Clone, PartialEq, Message)]
struct LockRecord {
    #[prost(message, repeated, tag = "1")]
    requests: Vec<RequestRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct RequestRecord {
    #[prost(uint32, tag = "1")]
    node: u32,
    #[prost(fixed64, tag = "2")]
    start: u64,
    #[prost(uint64, tag = "3")]
    session: u64,
    #[prost(bool, tag = "4")]
    is_exclusive: bool,
    #[prost(bool, tag = "5")]
    is_granted: bool,
    #[prost(int32, tag = "6")]
    pid: i32,
    #[prost(uint64, tag = "7")]
    number: u64,
}

pub(super) fn encode(lock: &AdvisoryLock) -> Bytes {
    let record = |r: &LockRequest| RequestRecord {
        node: r.owner.holder.node.get(),
        start: r.owner.holder.start.as_nanos(),
        session: r.owner.session,
        is_exclusive: r.is_exclusive,
        is_granted: r.is_granted,
        pid: r.pid,
        number: r.number,
    };
    LockRecord { requests: lock.requests.iter().map(record).collect() }.encode_to_vec().into()
}

pub(super) fn decode(bytes: &[u8]) -> Result<AdvisoryLock, prost::DecodeError> {
    let request = |r: RequestRecord| {
        let holder = Holder { node: NodeId::new(r.node), start: Timestamp::from_nanos(r.start) };
        LockRequest {
            owner: LockOwner { holder, session: r.session },
            is_exclusive: r.is_exclusive,
            is_granted: r.is_granted,
            pid: r.pid,
            number: r.number,
        }
    };
    let record = LockRecord::decode(bytes)?;
    Ok(AdvisoryLock { requests: record.requests.into_iter().map(request).collect() })
}
