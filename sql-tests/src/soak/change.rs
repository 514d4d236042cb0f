//! Which changes are made: drawn from a seed, out of what the schema allows.

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

use super::schema::{Fact, Object, Schema};

/// Indexes, and columns besides the fixed ones, of a table; more are dropped first.
const INDEXES_MAX: usize = 4;
const EXTRA_COLUMNS_MAX: usize = 4;

/// A change of the schema.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// One statement, or those of a block.
    pub(super) statements: Vec<String>,
    /// The table.
    pub(super) table: String,
    /// The objects that are another when it has succeeded.
    pub(super) after: Vec<(Object, Option<Fact>)>,
    /// The SQLSTATE that it must fail with.
    pub(super) refusal: Option<&'static str>,
    /// It can be a job that is scheduled, or that nobody waits for.
    pub(super) can_defer: bool,
    /// It empties `side`.
    pub(super) truncates: bool,
}

impl Change {
    /// The schema when it has succeeded.
    pub(super) fn apply(&self, schema: &Schema) -> Schema {
        let mut next = schema.clone();
        for (object, fact) in &self.after {
            match fact {
                Some(fact) => next.insert(object.clone(), fact.clone()),
                None => next.remove(object),
            };
        }
        next
    }
}

/// The columns that indexes are made of, those whose values differ from row to row, and conditions that all rows meet;
/// expressions and conditions of indexes, as PostgreSQL prints them.
struct Ground {
    keys: &'static [&'static str],
    expressions: &'static [&'static str],
    predicates: &'static [&'static str],
    unique: &'static [&'static str],
    true_conditions: &'static [&'static str],
}

fn ground(table: &str) -> Ground {
    match table {
        "item" => Ground {
            keys: &["a", "c", "d", "b", "n"],
            expressions: &["lower(c)", "((a + 1))", "((b % 7))"],
            predicates: &["(a > 10)", "(n IS NOT NULL)", "((a > 3) AND (length(c) > 4))"],
            unique: &["b"],
            true_conditions: &["a >= 0", "b > 0", "length(c) > 0"],
        },
        "side" => Ground {
            keys: &["v"],
            expressions: &["((v % 7))"],
            predicates: &["(v > 5)"],
            unique: &[],
            true_conditions: &["v >= 0"],
        },
        _ => Ground {
            keys: &["balance", "writer"],
            expressions: &["((balance / 2))"],
            predicates: &["(balance > 50)"],
            unique: &["id"],
            true_conditions: &["balance > -100000", "writer >= 0"],
        },
    }
}

/// Draws changes of one table.
struct Draw<'a> {
    schema: &'a Schema,
    table: &'a str,
    /// Numbers what is made.
    serial: u64,
}

/// Draws change number `serial`, of a table besides `except`.
pub(super) fn draw(rng: &mut SmallRng, schema: &Schema, serial: u64, except: Option<&str>) -> Change {
    const WEIGHTED: [&str; 7] = ["item", "item", "item", "item", "side", "bank_0", "bank_1"];
    loop {
        let table = *WEIGHTED.choose(rng).expect("there are tables");
        if except == Some(table) {
            continue;
        }
        if let Some(change) = (Draw { schema, table, serial }).any(rng) {
            return change;
        }
    }
}

impl Draw<'_> {
    fn any(&self, rng: &mut SmallRng) -> Option<Change> {
        match rng.random_range(0..32) {
            0..=6 => self.create_index(rng),
            7..=9 => self.drop_index(rng),
            10..=11 => self.rename_index(rng),
            12..=14 => self.add_column(rng),
            15..=16 => self.drop_column(rng),
            17..=18 => self.rename_column(rng),
            19..=20 => self.default(rng),
            21..=23 => self.add_check(rng),
            24..=25 => self.end_check(rng),
            26..=27 => self.not_null(rng),
            28 => self.change_type(rng),
            29 => self.truncate(),
            30 => self.scratch(rng),
            _ => self.several(rng),
        }
    }

    fn change(&self, statement: String, after: Vec<(Object, Option<Fact>)>) -> Option<Change> {
        // The number makes the statement known among the jobs.
        let (word, rest) = statement.split_once(' ').expect("a statement has words");
        Some(Change {
            statements: vec![format!("{word} /* #{} */ {rest}", self.serial)],
            table: self.table.to_owned(),
            after,
            refusal: None,
            can_defer: true,
            truncates: false,
        })
    }

    fn refused(&self, statement: String, code: &'static str) -> Option<Change> {
        let change = self.change(statement, Vec::new())?;
        Some(Change { refusal: Some(code), ..change })
    }

    fn alter(&self, action: &str, after: Vec<(Object, Option<Fact>)>) -> Option<Change> {
        self.change(format!("ALTER TABLE {} {action}", self.table), after)
    }

    fn index(&self, name: &str) -> Object {
        Object::Index(self.table.to_owned(), name.to_owned())
    }

    fn column(&self, name: &str) -> Object {
        Object::Column(self.table.to_owned(), name.to_owned())
    }

    fn check(&self, name: &str) -> Object {
        Object::Check(self.table.to_owned(), name.to_owned())
    }

    fn indexes(&self) -> Vec<(&String, &Fact)> {
        let mine = self.schema.iter().filter_map(|(object, fact)| match object {
            Object::Index(table, name) if table == self.table => Some((name, fact)),
            _ => None,
        });
        mine.collect()
    }

    /// Columns that no client knows of.
    fn extras(&self) -> Vec<(&String, &Fact)> {
        let mine = self.schema.iter().filter_map(|(object, fact)| match object {
            Object::Column(table, name) if table == self.table && name.starts_with('x') => Some((name, fact)),
            _ => None,
        });
        mine.collect()
    }

    /// CHECK constraints: the name, the condition, and whether it is validated.
    fn checks(&self) -> Vec<(&String, &str, bool)> {
        let mine = self.schema.iter().filter_map(|(object, fact)| match (object, fact) {
            (Object::Check(table, name), Fact::Check { condition, validated }) if table == self.table => {
                Some((name, condition.as_str(), *validated))
            }
            _ => None,
        });
        mine.collect()
    }

    fn create_index(&self, rng: &mut SmallRng) -> Option<Change> {
        if self.indexes().len() >= INDEXES_MAX {
            return self.drop_index(rng);
        }
        let ground = ground(self.table);
        let table = self.table;
        // Many rows agree on `a`.
        if table == "item" && rng.random_range(0..6) == 0 {
            let sql = format!("CREATE UNIQUE INDEX bad_{} ON item (a)", self.serial);
            return self.refused(sql, "23505");
        }
        if table == "item" && rng.random_range(0..12) == 0 {
            let sql = format!("CREATE INDEX bad_{} ON item ((1 / (b - b)))", self.serial);
            return self.refused(sql, "22012");
        }
        let unique = !ground.unique.is_empty() && rng.random_range(0..3) == 0;
        let extras: Vec<&str> = self.extras().into_iter().map(|(name, _)| name.as_str()).collect();
        let mut pool: Vec<&str> = ground.keys.iter().copied().chain(extras).collect();
        let mut key = Vec::new();
        if unique {
            key.push(*ground.unique.choose(rng).expect("it is not empty"));
            pool.retain(|name| *name != key[0]);
        }
        for _ in 0..rng.random_range(usize::from(!unique)..=2) {
            if let Some(at) = (0..pool.len()).collect::<Vec<_>>().choose(rng) {
                key.push(pool.remove(*at));
            }
        }
        // A constraint has columns only, and holds for all rows.
        let is_constraint = unique && rng.random();
        if !is_constraint && rng.random_range(0..3) == 0 {
            key.push(*ground.expressions.choose(rng).expect("it is not empty"));
        }
        let predicate = (!is_constraint && rng.random_range(0..3) == 0)
            .then(|| (*ground.predicates.choose(rng).expect("it is not empty")).to_owned());
        let mut include = Vec::new();
        if !pool.is_empty() && rng.random_range(0..3) == 0 {
            include.push(pool[rng.random_range(0..pool.len())]);
        }
        let strings = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let fact = Fact::Index {
            unique,
            is_constraint,
            key: strings(&key),
            include: strings(&include),
            predicate: predicate.clone(),
        };
        let columns = match include.is_empty() {
            true => format!("({})", key.join(", ")),
            false => format!("({}) INCLUDE ({})", key.join(", "), include.join(", ")),
        };
        if is_constraint {
            let name = format!("uq_{}", self.serial);
            let action = format!("ADD CONSTRAINT {name} UNIQUE {columns}");
            return self.alter(&action, vec![(self.index(&name), Some(fact))]);
        }
        let name = format!("ix_{}", self.serial);
        let words = if unique { "UNIQUE INDEX" } else { "INDEX" };
        let concurrently = if rng.random() { " CONCURRENTLY" } else { "" };
        let condition = predicate.map_or_else(String::new, |p| format!(" WHERE {p}"));
        let sql = format!("CREATE {words}{concurrently} {name} ON {table} {columns}{condition}");
        self.change(sql, vec![(self.index(&name), Some(fact))])
    }

    fn drop_index(&self, rng: &mut SmallRng) -> Option<Change> {
        let indexes = self.indexes();
        let (name, fact) = indexes.choose(rng)?;
        let after = vec![(self.index(name), None)];
        match fact {
            Fact::Index { is_constraint: true, .. } => self.alter(&format!("DROP CONSTRAINT {name}"), after),
            _ => self.change(format!("DROP INDEX {name}"), after),
        }
    }

    fn rename_index(&self, rng: &mut SmallRng) -> Option<Change> {
        let indexes = self.indexes();
        let (from, fact) = *indexes.choose(rng)?;
        let to = format!("{}_{}", from.split_once('_').map_or("ix", |(kind, _)| kind), self.serial);
        let sql = format!("ALTER INDEX {from} RENAME TO {to}");
        let after = vec![(self.index(from), None), (self.index(&to), Some(fact.clone()))];
        let change = self.change(sql, after)?;
        Some(Change { can_defer: false, ..change })
    }

    fn add_column(&self, rng: &mut SmallRng) -> Option<Change> {
        if self.extras().len() >= EXTRA_COLUMNS_MAX {
            return self.drop_column(rng);
        }
        let name = format!("x{}", self.serial);
        let (ty, value) = *[("integer", "7"), ("text", "'seven'"), ("bigint", "70")].choose(rng)?;
        let has_default = rng.random_range(0..5) < 2;
        let nullable = !has_default || rng.random();
        let mut action = format!("ADD COLUMN {name} {ty}");
        if has_default {
            action += &format!(" DEFAULT {value}");
        }
        if !nullable {
            action += " NOT NULL";
        }
        let fact = Fact::Column { ty: ty.to_owned(), nullable, has_default };
        self.alter(&action, vec![(self.column(&name), Some(fact))])
    }

    /// What becomes of the indexes of a column that is dropped.
    fn without_column(&self, name: &str) -> Vec<(Object, Option<Fact>)> {
        let has = |fact: &Fact| match fact {
            Fact::Index { key, include, .. } => key.iter().chain(include).any(|c| c == name),
            _ => false,
        };
        let gone = self.indexes().into_iter().filter(|(_, fact)| has(fact));
        let gone = gone.map(|(index, _)| (self.index(index), None));
        gone.chain([(self.column(name), None)]).collect()
    }

    fn drop_column(&self, rng: &mut SmallRng) -> Option<Change> {
        let extras = self.extras();
        let (name, _) = *extras.choose(rng)?;
        self.alter(&format!("DROP COLUMN {name}"), self.without_column(name))
    }

    fn rename_column(&self, rng: &mut SmallRng) -> Option<Change> {
        let extras = self.extras();
        let (from, fact) = *extras.choose(rng)?;
        let to = format!("x{}", self.serial);
        let mut after = vec![(self.column(from), None), (self.column(&to), Some(fact.clone()))];
        let renamed = |names: &[String]| {
            names.iter().map(|n| if n == from { to.clone() } else { n.clone() }).collect::<Vec<_>>()
        };
        for (index, fact) in self.indexes() {
            let Fact::Index { unique, is_constraint, key, include, predicate } = fact else { continue };
            let fact = Fact::Index {
                unique: *unique,
                is_constraint: *is_constraint,
                key: renamed(key),
                include: renamed(include),
                predicate: predicate.clone(),
            };
            after.push((self.index(index), Some(fact)));
        }
        self.alter(&format!("RENAME COLUMN {from} TO {to}"), after)
    }

    fn default(&self, rng: &mut SmallRng) -> Option<Change> {
        let extras = self.extras();
        let (name, fact) = *extras.choose(rng)?;
        let Fact::Column { ty, nullable: true, has_default } = fact else { return None };
        let value = if ty == "text" { "'eight'" } else { "8" };
        let action = match has_default {
            true => format!("ALTER COLUMN {name} DROP DEFAULT"),
            false => format!("ALTER COLUMN {name} SET DEFAULT {value}"),
        };
        let fact = Fact::Column { ty: ty.clone(), nullable: true, has_default: !has_default };
        self.alter(&action, vec![(self.column(name), Some(fact))])
    }

    fn add_check(&self, rng: &mut SmallRng) -> Option<Change> {
        if self.table == "item" && rng.random_range(0..4) == 0 {
            let action = format!("ADD CONSTRAINT bad_{} CHECK (a < 10)", self.serial);
            let change = self.alter(&action, Vec::new())?;
            return Some(Change { refusal: Some("23514"), ..change });
        }
        let condition = *ground(self.table).true_conditions.choose(rng)?;
        let name = format!("ck_{}", self.serial);
        let validated = rng.random();
        let not_valid = if validated { "" } else { " NOT VALID" };
        let fact = Fact::Check { condition: condition.to_owned(), validated };
        let after = vec![(self.check(&name), Some(fact))];
        self.alter(&format!("ADD CONSTRAINT {name} CHECK ({condition}){not_valid}"), after)
    }

    fn end_check(&self, rng: &mut SmallRng) -> Option<Change> {
        let checks = self.checks();
        let (name, condition, validated) = *checks.choose(rng)?;
        if !validated {
            let fact = Fact::Check { condition: condition.to_owned(), validated: true };
            return self.alter(&format!("VALIDATE CONSTRAINT {name}"), vec![(self.check(name), Some(fact))]);
        }
        self.alter(&format!("DROP CONSTRAINT {name}"), vec![(self.check(name), None)])
    }

    fn not_null(&self, rng: &mut SmallRng) -> Option<Change> {
        if self.table != "item" {
            return None;
        }
        if rng.random_range(0..4) == 0 {
            return self.refused("ALTER TABLE item ALTER COLUMN n SET NOT NULL".to_owned(), "23502");
        }
        let name = *["a", "c", "d"].choose(rng)?;
        let Some(Fact::Column { ty, nullable, has_default }) = self.schema.get(&self.column(name)) else {
            unreachable!("the fixed columns are there")
        };
        let action = if *nullable { "SET" } else { "DROP" };
        let fact = Fact::Column { ty: ty.clone(), nullable: !nullable, has_default: *has_default };
        let action = format!("ALTER COLUMN {name} {action} NOT NULL");
        self.alter(&action, vec![(self.column(name), Some(fact))])
    }

    fn change_type(&self, rng: &mut SmallRng) -> Option<Change> {
        let Some(Fact::Column { ty, nullable, has_default }) = self.schema.get(&self.column("d")) else {
            return None;
        };
        let others = ["integer", "bigint", "numeric", "text"].into_iter().filter(|other| other != ty);
        let to = *others.collect::<Vec<_>>().choose(rng)?;
        let fact = Fact::Column { ty: to.to_owned(), nullable: *nullable, has_default: *has_default };
        let action = format!("ALTER COLUMN d TYPE {to} USING d::{to}");
        self.alter(&action, vec![(self.column("d"), Some(fact))])
    }

    fn truncate(&self) -> Option<Change> {
        let change = self.change("TRUNCATE TABLE side".to_owned(), Vec::new())?;
        Some(Change { can_defer: false, truncates: true, table: "side".to_owned(), ..change })
    }

    fn scratch(&self, rng: &mut SmallRng) -> Option<Change> {
        let scratch: Vec<&String> = self
            .schema
            .keys()
            .filter_map(|o| if let Object::Table(name) = o { Some(name) } else { None })
            .collect();
        let (sql, after) = match scratch.choose(rng) {
            Some(name) => (format!("DROP TABLE {name}"), (Object::Table(name.to_string()), None)),
            None => {
                let name = format!("scratch_{}", self.serial);
                let sql = format!("CREATE TABLE {name} AS SELECT id, a, c FROM item WHERE id < 0");
                (sql, (Object::Table(name), Some(Fact::Table)))
            }
        };
        let change = self.change(sql, vec![after])?;
        Some(Change { can_defer: false, ..change })
    }

    /// Several actions in one statement, or statements in one block.
    fn several(&self, rng: &mut SmallRng) -> Option<Change> {
        if self.extras().len() >= EXTRA_COLUMNS_MAX || self.indexes().len() >= INDEXES_MAX {
            return None;
        }
        let (column, check) = (format!("x{}", self.serial), format!("ck_{}", self.serial));
        let condition = *ground(self.table).true_conditions.choose(rng)?;
        let is_block: bool = rng.random();
        let fact = Fact::Column { ty: "integer".to_owned(), nullable: true, has_default: is_block };
        let mut after = vec![(self.column(&column), Some(fact))];
        let fact = Fact::Check { condition: condition.to_owned(), validated: true };
        after.push((self.check(&check), Some(fact)));
        if is_block {
            // Rows are looked at and entries written within the block's transaction, beside the clients.
            let first = format!("ADD COLUMN {column} integer DEFAULT 7");
            let second = format!("ADD CONSTRAINT {check} CHECK ({condition})");
            let name = format!("ix_{}", self.serial);
            let key = vec![column, (*ground(self.table).keys.choose(rng)?).to_owned()];
            let third = format!("CREATE INDEX {name} ON {} ({})", self.table, key.join(", "));
            let fact = Fact::Index {
                unique: false,
                is_constraint: false,
                key,
                include: Vec::new(),
                predicate: None,
            };
            after.push((self.index(&name), Some(fact)));
            let mut statements = self.alter(&first, Vec::new())?.statements;
            statements.extend(self.alter(&second, Vec::new())?.statements);
            statements.extend(self.change(third, Vec::new())?.statements);
            let change = self.change("NOTHING more".to_owned(), after)?;
            return Some(Change { statements, can_defer: false, ..change });
        }
        let mut actions = format!("ADD COLUMN {column} integer, ADD CONSTRAINT {check} CHECK ({condition})");
        if let Some(unique) = ground(self.table).unique.choose(rng) {
            let name = format!("uq_{}", self.serial);
            actions += &format!(", ADD CONSTRAINT {name} UNIQUE ({unique})");
            let key = vec![(*unique).to_owned()];
            let fact =
                Fact::Index { unique: true, is_constraint: true, key, include: Vec::new(), predicate: None };
            after.push((self.index(&name), Some(fact)));
        }
        self.alter(&actions, after)
    }
}
