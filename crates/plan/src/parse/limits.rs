//! Bounds of nesting, found from the tokens alone.
//!
//! Two shapes make a deep tree: nesting (parentheses, CASE, prefix operators) and chains of binary operators, which
//! sqlparser reads in a loop but keeps as a left-deep tree. Dropping and walking either recurses.

use meridian_datum::{Result, SqlError, SqlState};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// Nested parentheses, subqueries and CASE expressions. Every level costs some kilobytes of stack.
pub(crate) const NESTING_MAX: usize = 100;

/// sqlparser's own count of recursions, of which a level of nesting takes several.
pub(crate) const RECURSION_MAX: usize = 10 * NESTING_MAX;

/// Operators in one chain (`1 + 2 + 3`, `q UNION q UNION q`), which are walked with a stack frame for each.
const CHAIN_MAX: usize = 800;

/// Set operations and JOINs in the whole statement. Each is an operator of the plan, and plans are built, run and dropped
/// by recursion on stacks that are smaller than the planner's.
const OPERATORS_MAX: usize = 200;

/// Conditions joined by AND and OR. Chains of them are walked in a loop; only dropping the tree recurses.
const CONDITIONS_MAX: usize = 3_000;

/// One open parenthesis, or CASE.
#[derive(Default)]
struct Level {
    conditions: usize,
    chain: usize,
}

/// From here on a statement is planned on a stack of its own.
const DEEP_NESTING: usize = 20;
const DEEP_CHAIN: usize = 60;
const DEEP_CONDITIONS: usize = 300;

/// Refuses a statement that would be too deep; says whether it is deep.
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<bool> {
    let mut is_deep = false;
    let mut levels: Vec<Level> = vec![Level::default()];
    let mut prefixes = 0usize;
    let mut operators = 0usize;
    for t in tokens {
        let mut is_prefix = false;
        let nested = levels.len() > 1;
        let level = levels.last_mut().expect("the outermost level stays");
        match &t.token {
            Token::LParen | Token::LBracket => levels.push(Level::default()),
            Token::RParen | Token::RBracket if nested => {
                levels.pop();
            }
            Token::Comma => *level = Level::default(),
            Token::Word(w) if w.quote_style.is_none() => match w.keyword {
                Keyword::CASE => levels.push(Level::default()),
                Keyword::END if nested => {
                    levels.pop();
                }
                Keyword::NOT => is_prefix = true,
                Keyword::AND | Keyword::OR => *level = Level { conditions: level.conditions + 1, chain: 0 },
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::JOIN => {
                    operators += 1;
                    level.chain += 1;
                }
                Keyword::COLLATE | Keyword::IS | Keyword::LIKE | Keyword::AT => level.chain += 1,
                _ => {}
            },
            Token::Minus | Token::Plus | Token::Tilde => {
                is_prefix = true;
                level.chain += 1;
            }
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Placeholder(_)
            | Token::Period
            | Token::Word(_)
            | Token::RParen
            | Token::RBracket => {}
            _ => level.chain += 1,
        }
        prefixes = if is_prefix { prefixes + 1 } else { 0 };
        let level = levels.last().expect("the outermost level stays");
        let too_deep = levels.len() > NESTING_MAX
            || prefixes > NESTING_MAX
            || operators > OPERATORS_MAX
            || level.conditions > CONDITIONS_MAX
            || level.chain > CHAIN_MAX;
        if too_deep {
            return Err(too_complex());
        }
        is_deep |= levels.len() > DEEP_NESTING
            || prefixes > DEEP_NESTING
            || level.conditions > DEEP_CONDITIONS
            || level.chain > DEEP_CHAIN;
    }
    Ok(is_deep)
}

pub(super) fn too_complex() -> SqlError {
    SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded").with_hint(
        "Write the statement with less nesting, or long chains of operators as IN lists or arrays.",
    )
}
