//! `pg_type`: object identifiers, lengths, categories, modifiers.

use crate::types::{DataType, NumericMod};

/// `pg_type.typcategory`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TypeCategory {
    /// `A`
    Array,
    /// `B`
    Boolean,
    /// `D`: date and time
    DateTime,
    /// `N`
    Numeric,
    /// `P`: record, void
    Pseudo,
    /// `S`
    String,
    /// `T`: interval
    Timespan,
    /// `U`: uuid, bytea, json
    User,
    /// `X`
    Unknown,
    /// `Z`: `"char"`
    Internal,
}

impl TypeCategory {
    /// The letter in `pg_type`.
    pub fn letter(self) -> char {
        match self {
            TypeCategory::Array => 'A',
            TypeCategory::Boolean => 'B',
            TypeCategory::DateTime => 'D',
            TypeCategory::Numeric => 'N',
            TypeCategory::Pseudo => 'P',
            TypeCategory::String => 'S',
            TypeCategory::Timespan => 'T',
            TypeCategory::User => 'U',
            TypeCategory::Unknown => 'X',
            TypeCategory::Internal => 'Z',
        }
    }
}

/// One row of `pg_type`, for the type itself; its array type is `array_oid`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TypeInfo {
    /// `oid`
    pub oid: u32,
    /// The identifier of the array over this type, 0 where there is none.
    pub array_oid: u32,
    /// `typname`
    pub name: &'static str,
    /// `typname` of the array.
    pub array_name: &'static str,
    /// The name in the SQL standard's spelling, as `format_type` prints it.
    pub sql_name: &'static str,
    /// `typlen`: -1 varies, -2 is a C string.
    pub len: i16,
    /// `typbyval`
    pub by_value: bool,
    /// `typalign`
    pub align: char,
    /// `typstorage`
    pub storage: char,
    /// `typcategory`
    pub category: TypeCategory,
    /// `typispreferred`
    pub preferred: bool,
}

macro_rules! type_table {
    ($($pattern:pat, $value:expr => $oid:literal $array:literal $name:literal $sql:literal $len:literal $byval:literal $align:literal $storage:literal $cat:ident $pref:literal;)*) => {
        fn scalar_info(t: &DataType) -> Option<&'static TypeInfo> {
            Some(match t {
                $($pattern => &TypeInfo {
                    oid: $oid, array_oid: $array, name: $name, array_name: concat!("_", $name), sql_name: $sql,
                    len: $len, by_value: $byval, align: $align, storage: $storage,
                    category: TypeCategory::$cat, preferred: $pref,
                },)*
                DataType::Array(_) => return None,
            })
        }

        /// Every scalar type without modifier, in the order of the table.
        pub(crate) const SCALARS: &[DataType] = &[$($value,)*];
    };
}

use DataType as D;

type_table! {
    D::Bool, D::Bool => 16 1000 "bool" "boolean" 1 true 'c' 'p' Boolean true;
    D::Bytea, D::Bytea => 17 1001 "bytea" "bytea" -1 false 'i' 'x' User false;
    D::InternalChar, D::InternalChar => 18 1002 "char" "\"char\"" 1 true 'c' 'p' Internal false;
    D::Name, D::Name => 19 1003 "name" "name" 64 false 'c' 'p' String false;
    D::Int8, D::Int8 => 20 1016 "int8" "bigint" 8 true 'd' 'p' Numeric false;
    D::Int2, D::Int2 => 21 1005 "int2" "smallint" 2 true 's' 'p' Numeric false;
    D::Int2Vector, D::Int2Vector => 22 1006 "int2vector" "int2vector" -1 false 'i' 'p' Array false;
    D::Int4, D::Int4 => 23 1007 "int4" "integer" 4 true 'i' 'p' Numeric false;
    D::RegProc, D::RegProc => 24 1008 "regproc" "regproc" 4 true 'i' 'p' Numeric false;
    D::Text, D::Text => 25 1009 "text" "text" -1 false 'i' 'x' String true;
    D::Oid, D::Oid => 26 1028 "oid" "oid" 4 true 'i' 'p' Numeric true;
    D::OidVector, D::OidVector => 30 1013 "oidvector" "oidvector" -1 false 'i' 'p' Array false;
    D::Json, D::Json => 114 199 "json" "json" -1 false 'i' 'x' User false;
    D::Float4, D::Float4 => 700 1021 "float4" "real" 4 true 'i' 'p' Numeric false;
    D::Float8, D::Float8 => 701 1022 "float8" "double precision" 8 true 'd' 'p' Numeric true;
    D::Unknown, D::Unknown => 705 0 "unknown" "unknown" -2 false 'c' 'p' Unknown false;
    D::Char(_), D::Char(None) => 1042 1014 "bpchar" "character" -1 false 'i' 'x' String false;
    D::Varchar(_), D::Varchar(None) => 1043 1015 "varchar" "character varying" -1 false 'i' 'x' String false;
    D::Date, D::Date => 1082 1182 "date" "date" 4 true 'i' 'p' DateTime false;
    D::Time, D::Time => 1083 1183 "time" "time without time zone" 8 true 'd' 'p' DateTime false;
    D::Timestamp, D::Timestamp => 1114 1115 "timestamp" "timestamp without time zone" 8 true 'd' 'p' DateTime false;
    D::TimestampTz, D::TimestampTz => 1184 1185 "timestamptz" "timestamp with time zone" 8 true 'd' 'p' DateTime true;
    D::Interval, D::Interval => 1186 1187 "interval" "interval" 16 false 'd' 'p' Timespan true;
    D::Numeric(_), D::Numeric(None) => 1700 1231 "numeric" "numeric" -1 false 'i' 'm' Numeric false;
    D::RegClass, D::RegClass => 2205 2210 "regclass" "regclass" 4 true 'i' 'p' Numeric false;
    D::RegType, D::RegType => 2206 2211 "regtype" "regtype" 4 true 'i' 'p' Numeric false;
    D::Record, D::Record => 2249 2287 "record" "record" -1 false 'd' 'x' Pseudo false;
    D::Void, D::Void => 2278 0 "void" "void" 4 true 'i' 'p' Pseudo false;
    D::Uuid, D::Uuid => 2950 2951 "uuid" "uuid" 16 false 'c' 'p' User false;
    D::RegNamespace, D::RegNamespace => 4089 4090 "regnamespace" "regnamespace" 4 true 'i' 'p' Numeric false;
}

#[expect(clippy::len_without_is_empty, reason = "the length is `typlen`, not a number of elements")]
impl DataType {
    /// What `pg_type` says of the type; for an array, of its innermost element.
    pub fn info(&self) -> &'static TypeInfo {
        let mut t = self;
        while let DataType::Array(e) = t {
            t = e;
        }
        scalar_info(t).expect("only arrays have no row of their own")
    }

    /// `pg_type.oid`.
    pub fn oid(&self) -> u32 {
        match self {
            DataType::Array(_) => self.info().array_oid,
            _ => self.info().oid,
        }
    }

    /// `pg_type.typlen`.
    pub fn len(&self) -> i16 {
        if matches!(self, DataType::Array(_)) { -1 } else { self.info().len }
    }

    /// `pg_type.typname`: `int4`, `_int4`.
    pub fn pg_name(&self) -> &'static str {
        if matches!(self, DataType::Array(_)) { self.info().array_name } else { self.info().name }
    }

    /// The category that overload resolution prefers within.
    pub fn category(&self) -> TypeCategory {
        if matches!(self, DataType::Array(_)) { TypeCategory::Array } else { self.info().category }
    }

    /// Whether the type is the preferred one of its category.
    pub fn is_preferred(&self) -> bool {
        !matches!(self, DataType::Array(_)) && self.info().preferred
    }

    /// `pg_attribute.atttypmod`: -1 without a modifier.
    pub fn type_modifier(&self) -> i32 {
        const HEADER: i32 = 4;
        match self {
            DataType::Varchar(Some(n)) | DataType::Char(Some(n)) => *n as i32 + HEADER,
            DataType::Numeric(Some(m)) => {
                ((i32::from(m.precision) << 16) | (i32::from(m.scale) & 0x7ff)) + HEADER
            }
            DataType::Array(e) => e.type_modifier(),
            _ => -1,
        }
    }

    /// The type with this identifier and modifier, where the database has it.
    pub fn from_oid(oid: u32, type_modifier: i32) -> Option<DataType> {
        for t in SCALARS {
            let info = t.info();
            if info.oid == oid {
                return Some(t.clone().with_type_modifier(type_modifier));
            }
            if info.array_oid == oid && oid != 0 {
                return Some(DataType::array(t.clone().with_type_modifier(type_modifier)));
            }
        }
        None
    }

    /// The same type with `pg_attribute.atttypmod`.
    pub fn with_type_modifier(self, type_modifier: i32) -> DataType {
        const HEADER: i32 = 4;
        if type_modifier < HEADER {
            return self.without_modifier();
        }
        let raw = type_modifier - HEADER;
        match self {
            DataType::Varchar(_) => DataType::Varchar(Some(raw as u32)),
            DataType::Char(_) => DataType::Char(Some(raw as u32)),
            DataType::Numeric(_) => {
                let precision = (raw >> 16) as u16;
                // Eleven bits of two's complement.
                let scale = (((raw & 0x7ff) ^ 1024) - 1024) as i16;
                DataType::Numeric(Some(NumericMod { precision, scale }))
            }
            DataType::Array(e) => DataType::array(e.with_type_modifier(type_modifier)),
            other => other,
        }
    }

    /// Every type without element or modifier, for `pg_type`.
    pub fn all_scalars() -> &'static [DataType] {
        SCALARS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oids_and_modifiers_read_back() {
        for t in SCALARS {
            assert_eq!(DataType::from_oid(t.oid(), -1).as_ref(), Some(t));
            if t.info().array_oid != 0 {
                let a = DataType::array(t.clone());
                assert_eq!(DataType::from_oid(a.oid(), -1), Some(a));
            }
        }
        for t in [
            DataType::Varchar(Some(7)),
            DataType::Char(Some(1)),
            DataType::numeric(10, 2),
            DataType::numeric(3, -5),
        ] {
            assert_eq!(DataType::from_oid(t.oid(), t.type_modifier()), Some(t));
        }
        // The values of a PostgreSQL 15 catalog.
        assert_eq!(DataType::Varchar(Some(10)).type_modifier(), 14);
        assert_eq!(DataType::numeric(10, 2).type_modifier(), 655_366);
        assert_eq!(DataType::numeric(10, 2).to_string(), "numeric(10,2)");
        assert_eq!(DataType::array(DataType::Varchar(Some(3))).to_string(), "character varying(3)[]");
    }
}
