use meridian_kv_api::{Kv, MemoryKv, ReadBound, ReadOnlyOptions, ReadWriteOptions};

use super::codec::Descriptor;
use super::*;
use crate::fixture::{APP, CUSTOMERS, LOG, ORDERS, customers, log, orders};

async fn change(kv: &MemoryKv, changes: Vec<CatalogChange>) -> Result<u64, CatalogError> {
    let txn = kv.begin(ReadWriteOptions::default());
    match CatalogStore::apply(&*txn, changes).await {
        Ok(version) => {
            txn.commit().await?;
            Ok(version)
        }
        Err(error) => {
            txn.rollback().await;
            Err(error)
        }
    }
}

async fn load(kv: &MemoryKv) -> CatalogSnapshot {
    let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: false };
    CatalogStore::load(&*kv.begin_read_only(options)).await.unwrap()
}

fn app() -> CatalogChange {
    CatalogChange::CreateSchema(SchemaDesc {
        id: APP,
        database: DEFAULT_DATABASE,
        name: "app".into(),
        owner: "root".into(),
    })
}

fn create(t: TableDesc) -> CatalogChange {
    CatalogChange::CreateTable(Box::new(t))
}

async fn booted() -> MemoryKv {
    let kv = MemoryKv::new();
    kv.set_page_rows(2);
    let txn = kv.begin(ReadWriteOptions::default());
    assert!(CatalogStore::bootstrap(&*txn).await.unwrap());
    txn.commit().await.unwrap();
    kv
}

/// A store with the tables of the fixture.
async fn filled() -> MemoryKv {
    let kv = booted().await;
    let changes = vec![app(), create(customers()), create(orders()), create(log())];
    assert_eq!(change(&kv, changes).await.unwrap(), 2);
    kv
}

#[tokio::test]
async fn bootstrap_is_idempotent() {
    let kv = booted().await;
    let txn = kv.begin(ReadWriteOptions::default());
    assert!(!CatalogStore::bootstrap(&*txn).await.unwrap());
    txn.commit().await.unwrap();
    let snapshot = load(&kv).await;
    assert_eq!(snapshot.version(), 1);
    let names: Vec<&str> = snapshot.databases().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["postgres", "defaultdb"]);
    for d in snapshot.databases() {
        assert!(snapshot.schema(d.id, "public").is_some());
    }
}

#[tokio::test]
async fn what_was_written_is_read() {
    let kv = filled().await;
    let snapshot = load(&kv).await;
    assert_eq!(snapshot.version(), 2);
    assert!(snapshot.read_at() > Timestamp::ZERO);
    for expected in [customers(), orders(), log()] {
        assert_eq!(**snapshot.table(expected.id).unwrap(), expected);
    }
    let found = TableStatistics { rows: 12.0 };
    assert_eq!(change(&kv, vec![CatalogChange::SetStatistics(LOG, found)]).await.unwrap(), 3);
    assert_eq!(load(&kv).await.statistics(LOG), Some(found));
}

#[tokio::test]
async fn names_are_unique_in_their_parent() {
    let kv = filled().await;
    let mut table = log();
    table.id = TableId(17_000);
    for (schema, name, taken) in [
        (APP, "customers", true),
        (APP, "customers_pkey", true),
        (APP, "log", false),
        (log().schema, "log_pkey", false),
    ] {
        table.schema = schema;
        table.name = name.into();
        table.id = TableId(table.id.0 + 1);
        let outcome = change(&kv, vec![create(table.clone())]).await;
        if taken {
            let error = CatalogError::Duplicate { kind: ObjectKind::Relation, name: name.into() };
            assert_eq!(outcome, Err(error));
        } else {
            assert!(outcome.is_ok(), "{name}: {outcome:?}");
        }
    }
    let database = DatabaseDesc { id: DatabaseId(17_100), name: "postgres".into(), owner: "root".into() };
    let outcome = change(&kv, vec![CatalogChange::CreateDatabase(database)]).await;
    assert_eq!(outcome, Err(CatalogError::Duplicate { kind: ObjectKind::Database, name: "postgres".into() }));
}

#[tokio::test]
async fn a_replaced_table_gives_up_its_old_names() {
    let kv = filled().await;
    let mut next = customers();
    next.version = 2;
    next.name = "clients".into();
    next.indexes.clear();
    assert_eq!(change(&kv, vec![CatalogChange::ReplaceTable(Box::new(next.clone()))]).await.unwrap(), 3);
    let outcome = change(&kv, vec![CatalogChange::ReplaceTable(Box::new(next))]).await;
    assert_eq!(outcome, Err(CatalogError::Outdated { id: CUSTOMERS.0, expected: 1, found: 2 }));
    // Both old names are free.
    let mut other = log();
    (other.id, other.schema, other.name) = (TableId(17_000), APP, "customers".into());
    change(&kv, vec![create(other.clone())]).await.unwrap();
    (other.id, other.name) = (TableId(17_001), "customers_email_key".into());
    change(&kv, vec![create(other)]).await.unwrap();
}

#[tokio::test]
async fn a_dropped_table_waits_for_its_rows_to_go() {
    let kv = filled().await;
    let mut gone = orders();
    gone.version = 2;
    gone.dropped_at = Some(Timestamp::from_nanos(5));
    change(&kv, vec![CatalogChange::ReplaceTable(Box::new(gone))]).await.unwrap();
    let snapshot = load(&kv).await;
    assert!(snapshot.table(ORDERS).is_none());
    assert_eq!(snapshot.dropped_tables().map(|t| t.id).collect::<Vec<_>>(), [ORDERS]);
    for _ in 0..2 {
        change(&kv, vec![CatalogChange::RemoveTable(ORDERS)]).await.unwrap();
        assert_eq!(load(&kv).await.dropped_tables().count(), 0);
    }
    let outcome = change(&kv, vec![CatalogChange::DropSchema(SchemaId(9))]).await;
    assert_eq!(outcome, Err(CatalogError::Gone { kind: ObjectKind::Schema, id: 9 }));
}

#[tokio::test]
async fn oids_are_fresh_user_oids() {
    let kv = MemoryKv::new();
    let first = CatalogStore::allocate_oid(&kv).await.unwrap();
    let second = CatalogStore::allocate_oid(&kv).await.unwrap();
    assert!(first > FIRST_USER_OID && second > first);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes are on disks: a change of this test is a change of format.
#[test]
fn golden_bytes() {
    let schema = SchemaDesc { id: APP, database: DEFAULT_DATABASE, name: "app".into(), owner: "root".into() };
    let database = DatabaseDesc { id: DatabaseId(5), name: "postgres".into(), owner: "root".into() };
    let cases = [
        (Descriptor::Database(database), "0801121208051208706f7374677265731a04726f6f74".to_owned()),
        (Descriptor::Schema(schema), "08011a110890800110321a036170702204726f6f74".to_owned()),
        (Descriptor::Table(Box::new(orders())), ORDERS_BYTES.to_owned()),
    ];
    for (descriptor, golden) in cases {
        assert_eq!(hex(&descriptor.encode()), golden, "{descriptor:?}");
        assert_eq!(Descriptor::decode(&descriptor.encode()).unwrap(), descriptor);
    }
    assert_eq!(hex(&codec::encode_name(300, Some(IndexId(2)))), "08ac021002");
    let version = CatalogVersion { version: 300, ..CatalogVersion::default() };
    assert_eq!(hex(&codec::encode_version(version)), "08ac02");
    let later = CatalogVersion {
        valid_from: Timestamp::from_nanos(258),
        before: Timestamp::from_nanos(257),
        ..version
    };
    assert_eq!(
        hex(&codec::encode_version(later)),
        "08ac021102010000000000001901010000000000 00".replace(' ', "")
    );
    assert_eq!(codec::decode_version(&codec::encode_version(later)).unwrap(), later);
    assert_eq!(hex(&codec::encode_fence(Timestamp::from_nanos(258))), "090201000000000000");
    assert_eq!(hex(&codec::encode_statistics(TableStatistics { rows: 1.0 })), "09000000000000f03f");
    let customers = Descriptor::Table(Box::new(customers()));
    assert_eq!(Descriptor::decode(&customers.encode()).unwrap(), customers);
}

const ORDERS_BYTES: &str = concat!(
    "080122c701089a8001109a80011890800122066f72646572732a04726f6f7432130801120b637573746f6d65725f69641814",
    "2001320a08021202696418172001321108031206706c6163656418ba0820012801320f080412046e6f746518930820582801",
    "3a270801109b80011a0b6f72646572735f706b65792001289d8001320408011001320408021001400242240802109c80011a",
    "116f72646572735f706c616365645f6964783204080310023a01044002520808918001100118016005680370017907000000",
    "00000000",
);

#[test]
fn foreign_bytes_are_refused() {
    for bytes in [&b""[..], b"\x08\x02", b"\x08\x01", b"\xff\xff"] {
        assert!(Descriptor::decode(bytes).is_err(), "{bytes:?}");
    }
}
