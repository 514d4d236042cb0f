//! Schema changes as statements of the session.

use std::sync::Arc;

use meridian_datum::{SqlError, SqlState};
use meridian_exec::ddl::{BlockChange, DdlOutcome, DdlServices};
use meridian_plan::PlannedStatement;
use meridian_plan::ddl::Ddl;
use meridian_plan::planned::CommandTag as Tag;

use crate::api::{CommandTag, ResultSink, Severity};
use crate::session::Session;
use crate::transaction::read_only_violation;

impl Session {
    /// What schema changes need of the node.
    pub(crate) fn ddl_services(&self) -> DdlServices {
        let effective = self.settings.lock().effective().clone();
        DdlServices {
            kv: self.shared.kv.clone(),
            cluster: self.shared.cluster.clone(),
            catalog: self.shared.catalog.clone(),
            cancel: self.cancel.clone(),
            owner: self.user.clone(),
            shards_per_table: effective.shards_per_table,
            session: self.view.clone(),
            time_zone: effective.time_zone,
            now: self.now(),
            memory_limit: effective.memory_limit,
        }
    }

    /// Runs a schema change: inside a block as a part of it, otherwise online, in as many transactions as it takes.
    pub(crate) async fn run_ddl(
        &mut self,
        ddl: &Ddl,
        planned: &Arc<PlannedStatement>,
        sink: &mut dyn ResultSink,
    ) -> Result<(), SqlError> {
        let t = self.transaction.as_ref().expect("every statement runs in a transaction of the session");
        let name = match &planned.tag {
            Tag::Plain(s) => s,
            _ => "CREATE TABLE AS",
        };
        if t.modes.read_only {
            return Err(read_only_violation(name));
        }
        let outcome = if t.is_explicit
            || t.has_run
            || matches!(ddl, Ddl::CreateTableAs { .. } | Ddl::Truncate { .. })
        {
            self.run_ddl_in_block(ddl, planned).await?
        } else {
            // The change waits for transactions on the old catalog, of which this one must not be one.
            self.roll_back().await;
            self.ddl_services().run(ddl, planned).await?
        };
        for notice in &outcome.notices {
            let notice = SqlError::new(SqlState::SUCCESSFUL_COMPLETION, notice.clone());
            self.notice(sink, Severity::Notice, &notice);
        }
        sink.complete(match (ddl, &planned.tag) {
            (Ddl::CreateTableAs { with_data: true, .. }, _) => CommandTag::Select(outcome.rows),
            (_, Tag::Plain(s)) => CommandTag::Plain(s),
            _ => CommandTag::Plain("CREATE TABLE AS"),
        });
        Ok(())
    }

    async fn run_ddl_in_block(
        &mut self,
        ddl: &Ddl,
        planned: &Arc<PlannedStatement>,
    ) -> Result<DdlOutcome, SqlError> {
        let statement = self.statement(planned, Vec::new())?;
        let t = self.transaction.as_ref().expect("a transaction is open");
        let committed = t.lease.as_ref().expect("the catalog is leased").committed().clone();
        let services = self.ddl_services();
        let outcome = services.run_in_transaction(ddl, &statement, &committed).await?;
        let t = self.transaction.as_mut().expect("a transaction is open");
        if let Some((change, snapshot)) = outcome.changed.clone() {
            let concerned = t.changed_catalog.is_some_and(|earlier| earlier.concerns_plans);
            let concerns_plans = change.concerns_plans || concerned;
            t.changed_catalog = Some(BlockChange { concerns_plans, ..change });
            t.lease.as_mut().expect("the catalog is leased").set_private(snapshot);
        }
        t.dropped.extend(outcome.dropped.iter().cloned());
        Ok(outcome)
    }
}
