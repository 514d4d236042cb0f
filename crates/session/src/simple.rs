//! The only statement of a query string, ready to run: found by its text, found by its template, or planned.
//!
//! ```text
//!   text --known?--> plan
//!     | no
//!     v
//!   template --known?--> plan, with the literals as parameters
//!     | no
//!     +-- came before --> parse, parametrise, plan; kept if it is a point statement
//!     v
//!   parse, plan; kept by text
//! ```
//! Only point statements are kept by template: their plans do not depend on the values of literals, and for anything
//! larger the planner's estimates are worth more than its time. Whatever is wrong with a template (a literal that is not
//! of the type that its place asks for, a catalog that has moved on) leads back to the text itself, so that a client
//! never sees an error, a position or a result that the text alone would not have given.

use std::sync::Arc;

use meridian_datum::{DataType, Datum, SqlError, parse_text};
use meridian_plan::{Literal, ParsedStatement, Template};

use crate::cache::{self, CachedPlan};
use crate::session::Session;

/// A statement with its plan.
pub(crate) struct Simple {
    pub(crate) parsed: Arc<ParsedStatement>,
    pub(crate) plan: Arc<CachedPlan>,
    /// The literals, where the plan is that of a template.
    pub(crate) params: Vec<Datum>,
    /// The query string, where `parsed` has parameters in the places of its literals.
    text: Option<Arc<str>>,
}

/// What a query string holds.
pub(crate) enum Query {
    Empty,
    One(Simple),
    Several(Vec<Arc<ParsedStatement>>),
}

impl Session {
    /// Finds or makes the plan of a query string of one statement; takes several apart.
    pub(crate) async fn prepare_simple(&mut self, text: Arc<str>) -> Result<Query, SqlError> {
        let sql = &*text;
        if let Some((parsed, plan)) = self.cached(&text, &[]) {
            return Ok(Query::One(Simple { parsed, plan, params: Vec::new(), text: None }));
        }
        let template = Template::of(sql);
        if let Some(template) = &template
            && let Some(found) = self.by_template(template, &text)
        {
            return Ok(Query::One(found));
        }
        let mut statements: Vec<Arc<ParsedStatement>> =
            meridian_plan::parse(sql).map_err(|e| self.unless_failed(e))?.into_iter().map(Arc::new).collect();
        if statements.len() > 1 {
            return Ok(Query::Several(statements));
        }
        let Some(parsed) = statements.pop() else { return Ok(Query::Empty) };
        self.look_back(&parsed).await?;
        if let Some(template) = &template
            && let Some(found) = self.plan_template(template, &parsed, &text)
        {
            return Ok(Query::One(found));
        }
        let plan = self.plan(&parsed, &[]).map_err(|e| self.unless_failed(e))?;
        let plan = self.keep(&text, &[], &parsed, plan);
        Ok(Query::One(Simple { parsed, plan, params: Vec::new(), text: None }))
    }

    fn by_template(&mut self, template: &Template, text: &Arc<str>) -> Option<Simple> {
        let key: Arc<str> = template.text.as_str().into();
        let (parsed, plan) = self.cached(&key, &template.types)?;
        let params = self.literals(template, &plan.planned.param_types)?;
        Some(Simple { parsed, plan, params, text: Some(text.clone()) })
    }

    /// Plans a template, unless it came for the first time or is known to be of no use.
    fn plan_template(
        &mut self,
        template: &Template,
        parsed: &ParsedStatement,
        text: &Arc<str>,
    ) -> Option<Simple> {
        if self.has_private_catalog() || self.is_failed() {
            return None;
        }
        let key: Arc<str> = template.text.as_str().into();
        if self.plans.meet(&key) != cache::Template::Known {
            return None;
        }
        let made = template.parametrise(parsed).and_then(|parsed| {
            let parsed = Arc::new(parsed);
            let plan = self.plan(&parsed, &template.types).ok()?;
            let is_of_use = plan.point.is_some() && plan.planned.cacheable && plan.planned.notices.is_empty();
            is_of_use.then_some((parsed, plan))
        });
        let Some((parsed, plan)) = made else {
            self.plans.refuse(&key);
            return None;
        };
        let params = self.literals(template, &plan.planned.param_types)?;
        let plan = self.keep(&key, &template.types, &parsed, plan);
        Some(Simple { parsed, plan, params, text: Some(text.clone()) })
    }

    /// The literals as values of the types that their places ask for.
    fn literals(&self, template: &Template, types: &[DataType]) -> Option<Vec<Datum>> {
        let mut eval = None;
        let literals = template.literals.iter().zip(types);
        literals
            .map(|(literal, ty)| match literal {
                Literal::Int(n) => Some(Datum::Int(*n)),
                Literal::Text(s) => parse_text(eval.get_or_insert_with(|| self.eval_context()), s, ty).ok(),
            })
            .collect()
    }

    /// Holds the catalog, and plans again where it is not the one that the plan was made on.
    pub(crate) async fn plan_on_lease(&mut self, statement: &mut Simple) -> Result<(), SqlError> {
        self.lease().await?;
        self.look_back(&statement.parsed).await?;
        let is_current = statement.plan.is_current(self.snapshot().version(), self.private_catalog());
        if is_current || self.is_failed() {
            return Ok(());
        }
        if let Some(text) = statement.text.take() {
            let parsed = meridian_plan::parse(&text)?.pop();
            statement.parsed = Arc::new(parsed.expect("a text with a template has a statement"));
            statement.params.clear();
        }
        statement.plan = Arc::new(self.plan(&statement.parsed, &[])?);
        Ok(())
    }
}
