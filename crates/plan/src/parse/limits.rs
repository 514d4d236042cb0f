//! Bounds of nesting, found from the tokens alone.
//!
//! Two shapes make a deep tree: nesting (parentheses, CASE, prefix operators) and chains of binary operators and of set
//! operations, which sqlparser reads in a loop but keeps as a left-deep tree. Dropping and walking either recurses. The
//! third, a chain of joins, is a list in the syntax tree; the binder counts it, with what it puts in place of names.

use meridian_datum::{Result, SqlError, SqlState};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// Nested parentheses, subqueries and CASE expressions. Every level costs some kilobytes of stack.
pub(crate) const NESTING_MAX: usize = 250;

/// sqlparser's own count of recursions, of which a level of nesting takes several.
pub(crate) const RECURSION_MAX: usize = 10 * NESTING_MAX;

/// Operators in one chain (`1 + 2 + 3`), which are walked with a stack frame for each.
const CHAIN_MAX: usize = 4_000;

/// Set operations in the whole statement. Each is an operator of the plan above the one before it.
const SET_OPERATIONS_MAX: usize = 2_000;

/// Conditions joined by AND and OR. Chains of them are walked in a loop; only dropping the tree recurses.
const CONDITIONS_MAX: usize = 20_000;

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
    let mut set_operations = 0usize;
    for t in tokens {
        let mut is_prefix = false;
        let nested = levels.len() > 1;
        let level = levels.last_mut().expect("the outermost level stays");
        match &t.token {
            Token::LParen => levels.push(Level::default()),
            // `int[][]`, `a[1][2]`
            Token::LBracket => {
                level.chain += 1;
                levels.push(Level::default());
            }
            Token::RParen | Token::RBracket if nested => {
                levels.pop();
            }
            Token::Comma => *level = Level::default(),
            Token::Word(w) if w.quote_style.is_none() => match w.keyword {
                Keyword::CASE => levels.push(Level::default()),
                Keyword::END if nested => {
                    levels.pop();
                }
                // Also `a NOT NULL`, behind its operand.
                Keyword::NOT => {
                    is_prefix = true;
                    level.chain += 1;
                }
                Keyword::AND | Keyword::OR => *level = Level { conditions: level.conditions + 1, chain: 0 },
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT => {
                    set_operations += 1;
                    *level = Level::default();
                }
                // Another expression begins.
                Keyword::SELECT
                | Keyword::FROM
                | Keyword::WHERE
                | Keyword::ON
                | Keyword::HAVING
                | Keyword::BY
                | Keyword::VALUES
                | Keyword::SET
                | Keyword::WHEN
                | Keyword::THEN
                | Keyword::ELSE => *level = Level::default(),
                // Operators that are words.
                Keyword::COLLATE
                | Keyword::IS
                | Keyword::NOTNULL
                | Keyword::IN
                | Keyword::BETWEEN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::RLIKE
                | Keyword::REGEXP
                | Keyword::SIMILAR
                | Keyword::GLOB
                | Keyword::MEMBER
                | Keyword::MATCH
                | Keyword::OVERLAPS
                | Keyword::OPERATOR
                | Keyword::DIV
                | Keyword::XOR
                | Keyword::AT => level.chain += 1,
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
            || set_operations > SET_OPERATIONS_MAX
            || level.conditions > CONDITIONS_MAX
            || level.chain > CHAIN_MAX;
        if too_deep {
            return Err(too_complex());
        }
        is_deep |= levels.len() > DEEP_NESTING
            || prefixes > DEEP_NESTING
            || set_operations > DEEP_CHAIN
            || level.conditions > DEEP_CONDITIONS
            || level.chain > DEEP_CHAIN;
    }
    Ok(is_deep)
}

/// `54001`
pub(crate) fn too_complex() -> SqlError {
    SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded").with_hint(
        "Write the statement with less nesting, or long chains of operators as IN lists or arrays.",
    )
}
