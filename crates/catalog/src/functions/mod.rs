//! Functions whose answer lies in the catalog or the session rather than in their arguments.
//!
//! The planner looks a call up with [`lookup_catalog_function`], casts the arguments and keeps the
//! [`CatalogFunction`]; the executor passes it to [`evaluate`] with the snapshot that the statement was planned on and
//! the session as [`SessionInfo`]. What PostgreSQL answers about objects that this database cannot have (triggers,
//! rules, views, comments) is what it answers when there are none.

mod define;
mod describe;
mod reg;
mod session;
mod size;
#[cfg(test)]
mod tests;
mod visible;

use meridian_datum::{DataType, Datum, Result};

pub(crate) use define::index_def;
pub use define::quote_ident;
pub use reg::{parse_reg, reg_input, reg_output, reg_text};
pub use session::SessionInfo;
pub(crate) use session::UTF8;

use crate::snapshot::CatalogSnapshot;

/// A formal argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum A {
    Bool,
    Int2,
    Int4,
    Int8,
    Numeric,
    Oid,
    Text,
    Name,
    Class,
    /// An object by name or by oid, whichever the caller has.
    Object,
}

impl A {
    /// The type that an actual argument is cast to.
    fn data_type(self, actual: &DataType) -> DataType {
        match self {
            A::Bool => DataType::Bool,
            A::Int2 => DataType::Int2,
            A::Int4 => DataType::Int4,
            A::Int8 => DataType::Int8,
            A::Numeric => DataType::Numeric(None),
            A::Oid => DataType::Oid,
            A::Text => DataType::Text,
            A::Name => DataType::Name,
            A::Class => DataType::RegClass,
            A::Object if actual.is_string() => DataType::Text,
            A::Object => DataType::Oid,
        }
    }

    /// Whether an actual argument is one of the formal's own kind, for overloads of one length.
    fn prefers(self, actual: &DataType) -> bool {
        match self {
            A::Numeric => matches!(actual, DataType::Numeric(_)),
            A::Int4 | A::Int8 | A::Int2 => actual.is_integer(),
            A::Bool => *actual == DataType::Bool,
            A::Text | A::Name => actual.is_string(),
            A::Oid | A::Class => actual.is_oid_like(),
            A::Object => true,
        }
    }
}

/// A result, as constants can name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum R {
    Bool,
    Int4,
    Int8,
    Oid,
    Text,
    Name,
    NameArray,
    Int4Array,
    TextArray,
    TimestampTz,
    RegClass,
    RegType,
    RegProc,
    RegNamespace,
}

impl R {
    fn data_type(self) -> DataType {
        match self {
            R::Bool => DataType::Bool,
            R::Int4 => DataType::Int4,
            R::Int8 => DataType::Int8,
            R::Oid => DataType::Oid,
            R::Text => DataType::Text,
            R::Name => DataType::Name,
            R::NameArray => DataType::array(DataType::Name),
            R::Int4Array => DataType::array(DataType::Int4),
            R::TextArray => DataType::array(DataType::Text),
            R::TimestampTz => DataType::TimestampTz,
            R::RegClass => DataType::RegClass,
            R::RegType => DataType::RegType,
            R::RegProc => DataType::RegProc,
            R::RegNamespace => DataType::RegNamespace,
        }
    }
}

struct Signature {
    name: &'static str,
    args: &'static [A],
    function: CatalogFunction,
}

macro_rules! catalog_functions {
    ($($(#[$doc:meta])* $variant:ident -> $result:ident: $($name:literal($($arg:ident),*)),+;)*) => {
        /// A function that is evaluated with a [`CatalogSnapshot`] and a session.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum CatalogFunction {
            $($(#[$doc])* $variant,)*
        }

        impl CatalogFunction {
            fn result(self) -> R {
                match self {
                    $(CatalogFunction::$variant => R::$result,)*
                }
            }
        }

        const SIGNATURES: &[Signature] = &[
            $($(Signature { name: $name, args: &[$(A::$arg),*], function: CatalogFunction::$variant },)+)*
        ];
    };
}

catalog_functions! {
    /// What clients recognise the server by.
    Version -> Text: "version"();
    /// The session's database.
    CurrentDatabase -> Name: "current_database"(), "current_catalog"();
    /// Where unqualified names are created.
    CurrentSchema -> Name: "current_schema"();
    /// The search path, as far as it exists.
    CurrentSchemas -> NameArray: "current_schemas"(Bool);
    /// The role whose privileges count.
    CurrentUser -> Name: "current_user"(), "current_role"(), "user"();
    /// The role that logged in.
    SessionUser -> Name: "session_user"();
    /// The number that cancel requests name.
    BackendPid -> Int4: "pg_backend_pid"();
    /// The node's address.
    ServerAddress -> Text: "inet_server_addr"();
    /// The node's port.
    ServerPort -> Int4: "inet_server_port"();
    /// The client's address.
    ClientAddress -> Text: "inet_client_addr"();
    /// The client's port.
    ClientPort -> Int4: "inet_client_port"();
    /// A number of the transaction.
    TransactionId -> Int8: "txid_current"(), "pg_current_xact_id"(), "txid_current_if_assigned"(),
        "pg_current_xact_id_if_assigned"();
    /// When the node started.
    ServerStart -> TimestampTz: "pg_postmaster_start_time"(), "pg_conf_load_time"();
    /// Reads a setting of the session.
    CurrentSetting -> Text: "current_setting"(Text), "current_setting"(Text, Bool);
    /// Changes a setting of the session.
    SetConfig -> Text: "set_config"(Text, Text, Bool);
    /// Always false.
    False -> Bool: "pg_is_in_recovery"(), "pg_is_wal_replay_paused"(), "pg_jit_available"(),
        "pg_is_other_temp_schema"(Oid), "pg_relation_is_publishable"(Class), "row_security_active"(Object);
    /// Always zero.
    Zero -> Int4: "pg_trigger_depth"();
    /// No object.
    NoOid -> Oid: "pg_my_temp_schema"();
    /// Nobody blocks by process: `meridian.locks` shows who waits for whom.
    NoPids -> Int4Array: "pg_blocking_pids"(Int4), "pg_safe_snapshot_blocking_pids"(Int4);
    /// About objects that do not exist here.
    NullText -> Text: "pg_get_viewdef"(Oid), "pg_get_viewdef"(Oid, Bool), "pg_get_viewdef"(Oid, Int4),
        "pg_get_triggerdef"(Oid), "pg_get_triggerdef"(Oid, Bool), "pg_get_ruledef"(Oid), "pg_get_ruledef"(Oid, Bool),
        "pg_get_functiondef"(Oid), "pg_get_function_sqlbody"(Oid), "pg_get_partkeydef"(Oid),
        "pg_get_partition_constraintdef"(Oid), "pg_get_statisticsobjdef"(Oid),
        "pg_get_statisticsobjdef_columns"(Oid), "pg_get_function_arg_default"(Oid, Int4),
        "obj_description"(Oid), "obj_description"(Oid, Name), "col_description"(Oid, Int4),
        "shobj_description"(Oid, Name);
    /// There are no access control lists, and so no default ones.
    NullAcl -> TextArray: "acldefault"(Text, Oid);
    /// Stored expressions are SQL text already.
    GetExpr -> Text: "pg_get_expr"(Text, Oid), "pg_get_expr"(Text, Oid, Bool);
    /// The statement that makes an index, or one of its columns.
    GetIndexdef -> Text: "pg_get_indexdef"(Oid), "pg_get_indexdef"(Oid, Int4, Bool);
    /// The clause that makes a constraint.
    GetConstraintdef -> Text: "pg_get_constraintdef"(Oid), "pg_get_constraintdef"(Oid, Bool);
    /// A role's name.
    GetUserbyid -> Name: "pg_get_userbyid"(Oid);
    /// The sequence behind a column.
    GetSerialSequence -> Text: "pg_get_serial_sequence"(Text, Text);
    /// The result type of a function.
    GetFunctionResult -> Text: "pg_get_function_result"(Oid);
    /// The argument types of a function.
    GetFunctionArguments -> Text: "pg_get_function_arguments"(Oid), "pg_get_function_identity_arguments"(Oid);
    /// A type's name in SQL.
    FormatType -> Text: "format_type"(Oid, Int4);
    /// Whether an unqualified name finds the relation.
    TableIsVisible -> Bool: "pg_table_is_visible"(Oid);
    /// Whether an unqualified name finds the type.
    TypeIsVisible -> Bool: "pg_type_is_visible"(Oid);
    /// Whether an unqualified name finds the function.
    FunctionIsVisible -> Bool: "pg_function_is_visible"(Oid);
    /// All of these lie in `pg_catalog`.
    IsVisible -> Bool: "pg_operator_is_visible"(Oid), "pg_opclass_is_visible"(Oid), "pg_opfamily_is_visible"(Oid),
        "pg_collation_is_visible"(Oid), "pg_conversion_is_visible"(Oid), "pg_statistics_obj_is_visible"(Oid),
        "pg_ts_config_is_visible"(Oid), "pg_ts_dict_is_visible"(Oid), "pg_ts_parser_is_visible"(Oid),
        "pg_ts_template_is_visible"(Oid);
    /// The name of an encoding.
    EncodingToChar -> Name: "pg_encoding_to_char"(Int4);
    /// The number of an encoding.
    CharToEncoding -> Int4: "pg_char_to_encoding"(Name);
    /// The only encoding.
    DatabaseEncoding -> Name: "getdatabaseencoding"(), "pg_client_encoding"();
    /// About how large a relation is.
    RelationSize -> Int8: "pg_relation_size"(Class), "pg_relation_size"(Class, Text), "pg_table_size"(Class);
    /// About how large the secondary indexes are.
    IndexesSize -> Int8: "pg_indexes_size"(Class);
    /// Both.
    TotalRelationSize -> Int8: "pg_total_relation_size"(Class);
    /// About how large a database is.
    DatabaseSize -> Int8: "pg_database_size"(Object);
    /// About how large everything is.
    TablespaceSize -> Int8: "pg_tablespace_size"(Object);
    /// Bytes with a unit.
    SizePretty -> Text: "pg_size_pretty"(Int8), "pg_size_pretty"(Numeric);
    /// There are no tablespace folders.
    TablespaceLocation -> Text: "pg_tablespace_location"(Oid);
    /// The number of a relation's storage.
    RelationFilenode -> Oid: "pg_relation_filenode"(Class);
    /// What may be done to a relation: bits of insert, update and delete.
    RelationIsUpdatable -> Int4: "pg_relation_is_updatable"(Class, Bool);
    /// Whether UPDATE may set a column.
    ColumnIsUpdatable -> Bool: "pg_column_is_updatable"(Class, Int2, Bool);
    /// An object in words.
    DescribeObject -> Text: "pg_describe_object"(Oid, Oid, Int4);
    /// How an index sorts a column.
    IndexColumnProperty -> Bool: "pg_index_column_has_property"(Class, Int4, Text);
    /// Every role may do anything with a relation that exists.
    TablePrivilege -> Bool: "has_table_privilege"(Object, Text), "has_table_privilege"(Object, Object, Text),
        "has_any_column_privilege"(Object, Text), "has_any_column_privilege"(Object, Object, Text),
        "has_sequence_privilege"(Object, Text), "has_sequence_privilege"(Object, Object, Text);
    /// And with its columns.
    ColumnPrivilege -> Bool: "has_column_privilege"(Object, Object, Text),
        "has_column_privilege"(Object, Object, Object, Text);
    /// And with a schema.
    SchemaPrivilege -> Bool: "has_schema_privilege"(Object, Text), "has_schema_privilege"(Object, Object, Text);
    /// And with a database.
    DatabasePrivilege -> Bool: "has_database_privilege"(Object, Text), "has_database_privilege"(Object, Object, Text);
    /// And with built-in objects.
    AnyPrivilege -> Bool: "has_function_privilege"(Object, Text), "has_function_privilege"(Object, Object, Text),
        "has_type_privilege"(Object, Text), "has_type_privilege"(Object, Object, Text),
        "has_language_privilege"(Object, Text), "has_language_privilege"(Object, Object, Text),
        "has_tablespace_privilege"(Object, Text), "has_tablespace_privilege"(Object, Object, Text),
        "pg_has_role"(Object, Text), "pg_has_role"(Object, Object, Text);
    /// A relation by name, or NULL.
    ToRegclass -> RegClass: "to_regclass"(Text);
    /// A type by name, or NULL.
    ToRegtype -> RegType: "to_regtype"(Text);
    /// A function by name, or NULL.
    ToRegproc -> RegProc: "to_regproc"(Text);
    /// A schema by name, or NULL.
    ToRegnamespace -> RegNamespace: "to_regnamespace"(Text);
    /// A role by name, or NULL.
    ToRegrole -> Oid: "to_regrole"(Text);
    /// The cast of a text to `regclass`.
    RegclassIn -> RegClass: "regclassin"(Text);
    /// The cast of a text to `regtype`.
    RegtypeIn -> RegType: "regtypein"(Text);
    /// The cast of a text to `regproc`.
    RegprocIn -> RegProc: "regprocin"(Text);
    /// The cast of a text to `regnamespace`.
    RegnamespaceIn -> RegNamespace: "regnamespacein"(Text);
    /// The cast of `regclass` to a text.
    RegclassOut -> Text: "regclassout"(Class);
    /// The cast of `regtype` to a text.
    RegtypeOut -> Text: "regtypeout"(Oid);
    /// The cast of `regproc` to a text.
    RegprocOut -> Text: "regprocout"(Oid);
    /// The cast of `regnamespace` to a text.
    RegnamespaceOut -> Text: "regnamespaceout"(Oid);
}

impl CatalogFunction {
    /// The type of the result.
    pub fn result_type(self) -> DataType {
        self.result().data_type()
    }

    /// Whether every call may give another value or has an effect.
    pub fn is_volatile(self) -> bool {
        matches!(self, CatalogFunction::SetConfig)
    }

    /// Whether NULL among the arguments makes the result NULL.
    fn is_strict(self) -> bool {
        !matches!(self, CatalogFunction::SetConfig | CatalogFunction::FormatType)
    }
}

/// The function that a call means, with the types that its arguments are to be cast to; `None` where no catalog
/// function has this name and number of arguments.
pub fn lookup_catalog_function(name: &str, args: &[DataType]) -> Option<(CatalogFunction, Vec<DataType>)> {
    let mut candidates: Vec<&Signature> =
        SIGNATURES.iter().filter(|s| s.name == name && s.args.len() == args.len()).collect();
    if candidates.len() > 1 {
        let fit = |s: &Signature| s.args.iter().zip(args).filter(|(f, t)| f.prefers(t)).count();
        // The first of the best: the table lists the usual one first.
        candidates.sort_by_key(|s| std::cmp::Reverse(fit(s)));
    }
    let signature = candidates.first()?;
    let types = signature.args.iter().zip(args).map(|(f, t)| f.data_type(t)).collect();
    Some((signature.function, types))
}

/// All names with their argument and result types, for `pg_proc`.
pub(crate) fn signatures() -> impl Iterator<Item = (&'static str, Vec<DataType>, DataType)> {
    SIGNATURES.iter().map(|s| {
        let args = s.args.iter().map(|a| a.data_type(&DataType::Oid)).collect();
        (s.name, args, s.function.result_type())
    })
}

/// What a function is evaluated with.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) snapshot: &'a CatalogSnapshot,
    pub(crate) session: &'a dyn SessionInfo,
}

/// Calls a function. The arguments are of the types that [`lookup_catalog_function`] gave.
pub fn evaluate(
    function: CatalogFunction,
    args: &[Datum],
    snapshot: &CatalogSnapshot,
    session: &dyn SessionInfo,
) -> Result<Datum> {
    use CatalogFunction as F;
    if function.is_strict() && args.iter().any(Datum::is_null) {
        return Ok(Datum::Null);
    }
    let scope = Scope { snapshot, session };
    match function {
        F::Version
        | F::CurrentDatabase
        | F::CurrentSchema
        | F::CurrentSchemas
        | F::CurrentUser
        | F::SessionUser
        | F::BackendPid
        | F::ServerAddress
        | F::ServerPort
        | F::ClientAddress
        | F::ClientPort
        | F::TransactionId
        | F::ServerStart
        | F::CurrentSetting
        | F::SetConfig
        | F::EncodingToChar
        | F::CharToEncoding
        | F::DatabaseEncoding => session::evaluate(function, args, scope),
        F::False => Ok(Datum::Bool(false)),
        F::IsVisible | F::AnyPrivilege => Ok(Datum::Bool(true)),
        F::Zero | F::NoOid => Ok(Datum::Int(0)),
        F::NullText | F::NullAcl => Ok(Datum::Null),
        F::NoPids => Ok(describe::array(DataType::Int4, Vec::new())),
        F::TablespaceLocation => Ok(Datum::from("")),
        F::GetExpr => Ok(args[0].clone()),
        F::GetIndexdef | F::GetConstraintdef | F::GetSerialSequence => {
            define::evaluate(function, args, scope)
        }
        F::GetUserbyid
        | F::GetFunctionResult
        | F::GetFunctionArguments
        | F::FormatType
        | F::RelationFilenode
        | F::RelationIsUpdatable
        | F::ColumnIsUpdatable
        | F::DescribeObject
        | F::IndexColumnProperty => describe::evaluate(function, args, scope),
        F::TableIsVisible
        | F::TypeIsVisible
        | F::FunctionIsVisible
        | F::TablePrivilege
        | F::ColumnPrivilege
        | F::SchemaPrivilege
        | F::DatabasePrivilege => visible::evaluate(function, args, scope),
        F::RelationSize
        | F::IndexesSize
        | F::TotalRelationSize
        | F::DatabaseSize
        | F::TablespaceSize
        | F::SizePretty => size::evaluate(function, args, scope),
        F::ToRegclass
        | F::ToRegtype
        | F::ToRegproc
        | F::ToRegnamespace
        | F::ToRegrole
        | F::RegclassIn
        | F::RegtypeIn
        | F::RegprocIn
        | F::RegnamespaceIn
        | F::RegclassOut
        | F::RegtypeOut
        | F::RegprocOut
        | F::RegnamespaceOut => reg::evaluate(function, args, scope),
    }
}
