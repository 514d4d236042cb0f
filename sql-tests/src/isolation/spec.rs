//! Reads specs in the format of PostgreSQL's `isolationtester`.
//!
//! ```text
//! setup { SQL }        before every interleaving, any number of times
//! teardown { SQL }     after it
//! session NAME         then its own setup, teardown, and `step NAME { SQL }`
//! permutation NAME...  an interleaving; without any, all of them are meant
//! ```
//! Hermitage's scripts are prose with blocks of SQL, a statement a line, and the transaction's number in a remark.
//! Markers in parentheses behind a step's name say when PostgreSQL's tester reports it; they mean nothing here.

use std::iter::Peekable;
use std::vec::IntoIter;

/// Interleavings of a spec that names none. More than a test should run.
const INTERLEAVINGS_MAX: usize = 3_000;

/// What every scenario of Hermitage begins with.
const HERMITAGE: &str = "CREATE TABLE IF NOT EXISTS test (id int PRIMARY KEY, value int);
    DELETE FROM test; INSERT INTO test VALUES (1, 10), (2, 20)";

/// A step of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) sql: String,
}

/// What one connection does.
#[derive(Clone, Default, Debug)]
pub(super) struct Session {
    pub(super) setup: Option<String>,
    pub(super) teardown: Option<String>,
    pub(super) steps: Vec<Step>,
}

/// A session's step, by position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct StepId {
    pub(super) session: usize,
    pub(super) step: usize,
}

/// Sessions, their steps and the interleavings to run.
#[derive(Clone, Default, Debug)]
pub struct Spec {
    pub(super) setups: Vec<String>,
    pub(super) teardown: Option<String>,
    pub(super) sessions: Vec<Session>,
    pub(super) permutations: Vec<Vec<StepId>>,
}

#[derive(PartialEq, Eq, Debug)]
enum Token {
    Word(String),
    Quoted(String),
    Block(String),
}

type Tokens = Peekable<IntoIter<Token>>;

impl Spec {
    /// Parses a spec's text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Spec, String> {
        let mut tokens = tokens(text)?.into_iter().peekable();
        let mut spec = Spec::default();
        let mut named = Vec::new();
        while let Some(token) = tokens.next() {
            let Token::Word(keyword) = token else {
                return Err(format!("a keyword is expected, not {token:?}"));
            };
            match keyword.as_str() {
                "setup" => match spec.sessions.last_mut() {
                    None => spec.setups.push(block(&mut tokens)?),
                    Some(session) => session.setup = Some(block(&mut tokens)?),
                },
                "teardown" => {
                    let sql = Some(block(&mut tokens)?);
                    match spec.sessions.last_mut() {
                        None => spec.teardown = sql,
                        Some(session) => session.teardown = sql,
                    }
                }
                "session" => {
                    name(&mut tokens)?;
                    spec.sessions.push(Session::default());
                }
                "step" => {
                    let step = Step { name: name(&mut tokens)?, sql: block(&mut tokens)? };
                    spec.sessions.last_mut().ok_or("a step before the first session")?.steps.push(step);
                }
                "permutation" => named.push(names(&mut tokens)),
                other => return Err(format!("not a keyword: {other}")),
            }
        }
        for permutation in named {
            let steps: Result<_, String> = permutation.iter().map(|name| spec.find(name)).collect();
            spec.permutations.push(steps?);
        }
        if spec.permutations.is_empty() {
            spec.interleave(&mut vec![0; spec.sessions.len()], &mut Vec::new())?;
        }
        Ok(spec)
    }

    /// The scenarios of one of Hermitage's documents, each with the sentence before it.
    pub fn hermitage(document: &str) -> Vec<(String, Spec)> {
        let mut parts = document.split("```");
        let mut specs = Vec::new();
        while let (Some(prose), Some(code)) = (parts.next(), parts.next()) {
            let title = prose.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            let mut spec = Spec { setups: vec![HERMITAGE.into()], ..Spec::default() };
            let mut steps = Vec::new();
            for (sql, remark) in code.lines().filter_map(|line| line.split_once("--")) {
                let number = remark.trim().strip_prefix('T').and_then(|t| t.get(..1)?.parse::<usize>().ok());
                let session = number.map_or(0, |n| n - 1);
                if spec.sessions.len() <= session {
                    spec.sessions.resize(session + 1, Session::default());
                }
                let own = &mut spec.sessions[session].steps;
                steps.push(StepId { session, step: own.len() });
                own.push(Step {
                    name: format!("t{}.{}", session + 1, own.len() + 1),
                    sql: sql.trim().into(),
                });
            }
            spec.permutations.push(steps);
            if spec.sessions.len() > 1 {
                specs.push((title.trim_end_matches(':').to_owned(), spec));
            }
        }
        specs
    }

    /// How many interleavings it has.
    pub fn interleavings(&self) -> usize {
        self.permutations.len()
    }

    pub(super) fn step(&self, id: StepId) -> &Step {
        &self.sessions[id.session].steps[id.step]
    }

    fn find(&self, name: &str) -> Result<StepId, String> {
        let mut all = self.sessions.iter().enumerate();
        all.find_map(|(session, s)| {
            let step = s.steps.iter().position(|step| step.name == name)?;
            Some(StepId { session, step })
        })
        .ok_or_else(|| format!("no step is called {name}"))
    }

    fn interleave(&mut self, next: &mut Vec<usize>, sent: &mut Vec<StepId>) -> Result<(), String> {
        if next.iter().zip(&self.sessions).all(|(n, s)| *n == s.steps.len()) {
            self.permutations.push(sent.clone());
            let many = self.permutations.len() > INTERLEAVINGS_MAX;
            return if many { Err("too many interleavings".into()) } else { Ok(()) };
        }
        for session in 0..next.len() {
            let step = next[session];
            if step == self.sessions[session].steps.len() {
                continue;
            }
            next[session] += 1;
            sent.push(StepId { session, step });
            self.interleave(next, sent)?;
            sent.pop();
            next[session] -= 1;
        }
        Ok(())
    }
}

fn block(tokens: &mut Tokens) -> Result<String, String> {
    match tokens.next() {
        Some(Token::Block(sql)) => Ok(sql),
        other => Err(format!("a block is expected, not {other:?}")),
    }
}

fn name(tokens: &mut Tokens) -> Result<String, String> {
    match tokens.next() {
        Some(Token::Word(name) | Token::Quoted(name)) => Ok(name),
        other => Err(format!("a name is expected, not {other:?}")),
    }
}

fn names(tokens: &mut Tokens) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        match tokens.peek() {
            Some(Token::Word(w)) if w == "permutation" => return names,
            Some(Token::Word(w) | Token::Quoted(w)) => names.push(w.clone()),
            _ => return names,
        }
        tokens.next();
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut rest = text;
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return Ok(tokens) };
        // What ends the token, how many bytes open it, and what it is.
        let (body, end, make): (&str, char, Option<fn(String) -> Token>) = match first {
            '#' => (rest, '\n', None),
            '(' => (rest, ')', None),
            '{' => (&rest[1..], '}', Some(Token::Block)),
            '"' => (&rest[1..], '"', Some(Token::Quoted)),
            _ => {
                let is_end = |c: char| c.is_whitespace() || "#({\"".contains(c);
                let (word, after) = rest.split_at(rest.find(is_end).unwrap_or(rest.len()));
                tokens.push(Token::Word(word.to_owned()));
                rest = after;
                continue;
            }
        };
        let (inside, after) = match body.split_once(end) {
            Some(parts) => parts,
            None if first == '#' => (body, ""),
            None => return Err(format!("no {end} ends what begins with {first}")),
        };
        tokens.extend(make.map(|make| make(inside.trim().to_owned())));
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "
        setup { CREATE TABLE t (a int) } # a remark
        teardown { DROP TABLE t }
        session a
        setup { BEGIN; }
        step r { SELECT 1; }
        step \"permutation\" { COMMIT; }
        session b step w { SELECT 2 }";

    #[test]
    fn sessions_and_steps() {
        let spec = Spec::parse(&format!("{TWO} permutation r w(*) \"permutation\"")).unwrap();
        assert_eq!(spec.setups, ["CREATE TABLE t (a int)"]);
        assert_eq!(spec.sessions[0].setup.as_deref(), Some("BEGIN;"));
        let sent: Vec<&str> = spec.permutations[0].iter().map(|id| spec.step(*id).name.as_str()).collect();
        assert_eq!(sent, ["r", "w", "permutation"]);
    }

    #[test]
    fn without_permutations_all_interleavings() {
        assert_eq!(Spec::parse(TWO).unwrap().interleavings(), 3);
    }

    #[test]
    fn hermitage_scripts() {
        let text = "Once:\n```sql\ncreate table\n```\nA cycle:\n\n```sql\nbegin; -- T1\nselect 1; -- T2. Shows 1\n\
                    select 2; -- either\n```\n";
        let specs = Spec::hermitage(text);
        assert_eq!(specs.len(), 1);
        let (title, spec) = &specs[0];
        assert_eq!(title, "A cycle");
        let sent: Vec<_> = spec.permutations[0].iter().map(|id| (id.session, &*spec.step(*id).sql)).collect();
        assert_eq!(sent, [(0, "begin;"), (1, "select 1;"), (0, "select 2;")]);
    }

    #[test]
    fn bad_specs() {
        for bad in ["step a { }", "session a step b { SELECT", "session a permutation c", "{ }"] {
            assert!(Spec::parse(bad).is_err(), "{bad}");
        }
    }
}
