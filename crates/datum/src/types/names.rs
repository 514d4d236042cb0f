//! The names under which SQL text may mention a type.

use crate::types::DataType;

impl DataType {
    /// The type that a bare name means: `int4`, `integer`, `_text`, `timestamptz`, `character varying`. Case is
    /// significant, since the parser has already folded what was not quoted. Modifiers and brackets are not read here.
    pub fn from_name(name: &str) -> Option<DataType> {
        use DataType as D;
        Some(match name {
            "bool" | "boolean" => D::Bool,
            "int2" | "smallint" => D::Int2,
            "int4" | "int" | "integer" => D::Int4,
            "int8" | "bigint" => D::Int8,
            "float4" | "real" => D::Float4,
            "float8" | "float" | "double precision" => D::Float8,
            "numeric" | "decimal" | "dec" => D::Numeric(None),
            "text" => D::Text,
            "varchar" | "character varying" => D::Varchar(None),
            "bpchar" => D::Char(None),
            "character" | "char" => D::Char(Some(1)),
            "\"char\"" => D::InternalChar,
            "name" => D::Name,
            "bytea" => D::Bytea,
            "date" => D::Date,
            "time" | "time without time zone" => D::Time,
            "timestamp" | "timestamp without time zone" => D::Timestamp,
            "timestamptz" | "timestamp with time zone" => D::TimestampTz,
            "interval" => D::Interval,
            "uuid" => D::Uuid,
            "json" => D::Json,
            "oid" => D::Oid,
            "regclass" => D::RegClass,
            "regtype" => D::RegType,
            "regproc" => D::RegProc,
            "regnamespace" => D::RegNamespace,
            "int2vector" => D::Int2Vector,
            "oidvector" => D::OidVector,
            "unknown" => D::Unknown,
            "record" => D::Record,
            "void" => D::Void,
            _ => {
                let element = DataType::all_scalars()
                    .iter()
                    .find(|t| t.info().array_oid != 0 && t.info().array_name == name)?;
                return Some(D::array(element.clone()));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::DataType;

    #[test]
    fn every_sql_name_reads_back() {
        for t in DataType::all_scalars() {
            let read = DataType::from_name(t.info().sql_name).map(|r| r.without_modifier());
            assert_eq!(read.as_ref(), Some(t), "{}", t.info().sql_name);
        }
        assert_eq!(DataType::from_name("_int4"), Some(DataType::array(DataType::Int4)));
        assert_eq!(DataType::from_name("no_such_type"), None);
    }
}
