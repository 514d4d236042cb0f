//! Plans kept by statement text, or by what texts share that differ in literals only.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use meridian_catalog::CatalogSnapshot;
use meridian_datum::DataType;
use meridian_exec::CompiledPoint;
use meridian_plan::ddl::{Ddl, NewIndex};
use meridian_plan::planned::CommandTag;
use meridian_plan::session::SessionStatement;
use meridian_plan::{ParsedStatement, PlannedStatement, StatementPlan};
use meridian_types::Timestamp;
use parking_lot::Mutex;

use crate::api::{Field, Format, RowDescription};
use crate::statistics::{Shape, Statistics};

/// Plans that one session keeps.
const PLANS_MAX: usize = 512;
/// Longer texts are seldom sent twice.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Templates of which it is remembered that they came, or have no plan.
const TEMPLATES_MAX: usize = 1024;

/// What becomes a job instead of being run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Defer {
    /// The statement that the job runs.
    pub(crate) statement: Arc<str>,
    /// When it shall take effect; `None` for at once.
    pub(crate) at: Option<Timestamp>,
}

/// A plan and what is derived from it once.
#[derive(Debug)]
pub(crate) struct CachedPlan {
    pub(crate) planned: Arc<PlannedStatement>,
    /// What it was made from: the statement and its parameters' types as declared. `None` for an empty query string and
    /// for a cursor's query.
    pub(crate) source: Option<(Arc<ParsedStatement>, Vec<DataType>)>,
    /// Where its executions are counted, if they are.
    pub(crate) shape: Option<Arc<Shape>>,
    /// The statement becomes a job.
    pub(crate) defer: Option<Defer>,
    /// Codecs of a point statement.
    pub(crate) point: Option<CompiledPoint>,
    /// The catalog it was made on.
    catalog_version: u64,
    /// That catalog, where it had uncommitted changes of the transaction in it: after ROLLBACK another one may have the same
    /// version.
    private: Option<Weak<CatalogSnapshot>>,
    /// The result, all text.
    pub(crate) rows: Option<Arc<RowDescription>>,
    /// The result in the formats last asked for.
    formatted: Mutex<Option<Arc<RowDescription>>>,
}

impl CachedPlan {
    pub(crate) fn new(
        planned: PlannedStatement,
        source: Option<(Arc<ParsedStatement>, Vec<DataType>)>,
        point: Option<CompiledPoint>,
        catalog_version: u64,
        private: Option<&Arc<CatalogSnapshot>>,
    ) -> Self {
        let rows = planned.columns.as_ref().map(|columns| {
            let fields = columns.iter().map(|c| Field {
                name: c.name.as_str().into(),
                table_oid: c.origin.0,
                column_number: c.origin.1,
                data_type: c.ty.clone(),
                format: Format::Text,
            });
            Arc::new(RowDescription { fields: fields.collect() })
        });
        CachedPlan {
            planned: Arc::new(planned),
            source,
            shape: None,
            defer: None,
            point,
            catalog_version,
            private: private.map(Arc::downgrade),
            rows,
            formatted: Mutex::new(None),
        }
    }

    /// The plan of a statement that becomes a job, if it does.
    pub(crate) fn deferred(self, defer: Option<Defer>) -> Self {
        CachedPlan { defer, ..self }
    }

    /// A CREATE INDEX with the indexes of the statements that follow, and their text.
    pub(crate) fn with_indexes(self, indexes: Vec<NewIndex>, text: &str) -> Self {
        let mut planned = PlannedStatement::clone(&self.planned);
        if let StatementPlan::Ddl(ddl) = &mut planned.plan
            && let Ddl::CreateIndex { more, .. } = &mut **ddl
        {
            *more = indexes;
        }
        let source = self.source.map(|(parsed, types)| {
            let mut merged = ParsedStatement::clone(&parsed);
            merged.text = format!("{}{text}", parsed.text).into();
            (Arc::new(merged), types)
        });
        CachedPlan { planned: Arc::new(planned), source, ..self }
    }

    /// The plan of a statement whose executions are counted.
    pub(crate) fn counted(self, statistics: &Statistics) -> Self {
        let shape = match &self.planned.plan {
            StatementPlan::Session(_) => None,
            _ => self.source.as_ref().map(|(parsed, _)| statistics.shape(&parsed.text)),
        };
        CachedPlan { shape, ..self }
    }

    /// A conflict of the statement is made good by another attempt.
    pub(crate) fn note_retry(&self) {
        if let Some(shape) = &self.shape {
            shape.note_retry();
        }
    }

    /// The plan of an empty query string.
    pub(crate) fn empty() -> Self {
        let planned = PlannedStatement {
            plan: StatementPlan::Session(Box::new(SessionStatement::Empty)),
            param_types: Vec::new(),
            columns: None,
            tag: CommandTag::Plain(""),
            ctes: Vec::new(),
            tables: Vec::new(),
            is_read_only: true,
            single_operation: false,
            cacheable: false,
            as_of: None,
            notices: Vec::new(),
        };
        CachedPlan::new(planned, None, None, 0, None)
    }

    /// Whether the plan was made on this catalog. A version with uncommitted changes is nobody else's.
    pub(crate) fn is_current(&self, version: u64, private: Option<&Arc<CatalogSnapshot>>) -> bool {
        let is_same = match (&self.private, private) {
            (None, None) => true,
            (Some(own), Some(private)) => std::ptr::eq(own.as_ptr(), Arc::as_ptr(private)),
            _ => false,
        };
        is_same && self.catalog_version == version
    }

    /// The statement's text, without its terminator.
    pub(crate) fn text(&self) -> Arc<str> {
        self.source.as_ref().map_or_else(|| "".into(), |(parsed, _)| parsed.text.clone())
    }

    /// Bytes of that text.
    pub(crate) fn text_bytes(&self) -> usize {
        self.source.as_ref().map_or(0, |(parsed, _)| parsed.text.len())
    }

    /// Whether parameters and results have the types of another plan of the statement.
    pub(crate) fn answers_like(&self, other: &CachedPlan) -> bool {
        let same_result = match (&self.rows, &other.rows) {
            (Some(a), Some(b)) => {
                a.fields.len() == b.fields.len()
                    && a.fields.iter().zip(&b.fields).all(|(x, y)| x.data_type == y.data_type)
            }
            (None, None) => true,
            _ => false,
        };
        same_result && self.planned.param_types == other.planned.param_types
    }

    /// The result in the formats asked for.
    pub(crate) fn rows_as(&self, formats: &[Format]) -> Option<Arc<RowDescription>> {
        let rows = self.rows.as_ref()?;
        let format_of = |i: usize| match formats {
            [] => Format::Text,
            [one] => *one,
            many => many.get(i).copied().unwrap_or_default(),
        };
        let fits = |d: &RowDescription| d.fields.iter().enumerate().all(|(i, f)| f.format == format_of(i));
        if fits(rows) {
            return Some(rows.clone());
        }
        let mut kept = self.formatted.lock();
        if let Some(known) = kept.as_ref().filter(|d| fits(d)) {
            return Some(known.clone());
        }
        let mut fresh = RowDescription::clone(rows);
        for (i, f) in fresh.fields.iter_mut().enumerate() {
            f.format = format_of(i);
        }
        let fresh = Arc::new(fresh);
        *kept = Some(fresh.clone());
        Some(fresh)
    }
}

/// What a plan depends on besides the catalog.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct PlanKey {
    text: Arc<str>,
    types: Vec<DataType>,
    /// Generation of the settings that name resolution and constant folding depend on.
    settings: u64,
}

#[derive(Debug)]
struct Entry {
    parsed: Arc<ParsedStatement>,
    plan: Arc<CachedPlan>,
    used: u64,
}

/// What is known of a template without a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Template {
    /// A text of it came for the first time: there may never be another.
    New,
    /// Another one came: planning it pays.
    Known,
    /// It has no plan that would serve all its texts.
    Unfit,
}

/// The plans of a session, least recently used ones dropped first.
#[derive(Debug, Default)]
pub(crate) struct PlanCache {
    entries: HashMap<PlanKey, Entry>,
    clock: u64,
    /// Templates without a plan, and whether they are unfit.
    templates: HashMap<Arc<str>, bool>,
}

impl PlanCache {
    /// A plan made on this version of the catalog.
    pub(crate) fn get(
        &mut self,
        text: &Arc<str>,
        types: &[DataType],
        settings: u64,
        catalog_version: u64,
        private: Option<&Arc<CatalogSnapshot>>,
    ) -> Option<(Arc<ParsedStatement>, Arc<CachedPlan>)> {
        let key = PlanKey { text: text.clone(), types: types.to_vec(), settings };
        let entry = self.entries.get_mut(&key)?;
        if !entry.plan.is_current(catalog_version, private) {
            self.entries.remove(&key);
            return None;
        }
        self.clock += 1;
        entry.used = self.clock;
        Some((entry.parsed.clone(), entry.plan.clone()))
    }

    /// Keeps a plan.
    pub(crate) fn put(
        &mut self,
        text: &Arc<str>,
        types: &[DataType],
        settings: u64,
        parsed: Arc<ParsedStatement>,
        plan: Arc<CachedPlan>,
    ) {
        if !plan.planned.cacheable || text.len() > TEXT_BYTES_MAX {
            return;
        }
        if self.entries.len() >= PLANS_MAX {
            // Dropping a quarter at once spreads the cost of finding the oldest.
            let mut ages: Vec<u64> = self.entries.values().map(|e| e.used).collect();
            let (_, threshold, _) = ages.select_nth_unstable(PLANS_MAX / 4);
            let threshold = *threshold;
            self.entries.retain(|_, e| e.used > threshold);
        }
        self.clock += 1;
        let key = PlanKey { text: text.clone(), types: types.to_vec(), settings };
        self.entries.insert(key, Entry { parsed, plan, used: self.clock });
    }

    /// Notes that a text of a template without a plan has come.
    pub(crate) fn meet(&mut self, template: &Arc<str>) -> Template {
        if let Some(is_unfit) = self.templates.get(template) {
            return if *is_unfit { Template::Unfit } else { Template::Known };
        }
        if self.templates.len() >= TEMPLATES_MAX {
            self.templates.clear();
        }
        self.templates.insert(template.clone(), false);
        Template::New
    }

    /// Notes that there is no use in planning a template.
    pub(crate) fn refuse(&mut self, template: &Arc<str>) {
        self.templates.insert(template.clone(), true);
    }

    /// Forgets everything (`DISCARD PLANS`).
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.templates.clear();
    }
}
