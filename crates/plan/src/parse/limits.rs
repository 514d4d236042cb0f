//! Bounds of nesting, found from the tokens alone.
//!
//! Two shapes make a deep tree: nesting (parentheses, CASE, prefix operators) and chains of binary operators, which
//! sqlparser reads in a loop but keeps as a left-deep tree. Dropping and walking either recurses.

use meridian_datum::{Result, SqlError, SqlState};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// Nested parentheses, subqueries and CASE expressions. Every level costs some kilobytes of stack.
pub(crate) const NESTING_MAX: usize = 160;

/// Operators in one chain (`a AND b AND c`, `1 + 2 + 3`, `q UNION q UNION q`).
const CHAIN_MAX: usize = 2_000;

/// Refuses a statement that would be too deep.
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    // Per open parenthesis: operators since the last comma.
    let mut chains: Vec<usize> = vec![0];
    let mut prefix_run = 0usize;
    for t in tokens {
        let mut is_prefix = false;
        match &t.token {
            Token::LParen | Token::LBracket => chains.push(0),
            Token::RParen | Token::RBracket => {
                if chains.len() > 1 {
                    chains.pop();
                }
            }
            Token::Comma => *chains.last_mut().expect("never empty") = 0,
            Token::Word(w) => match w.keyword {
                Keyword::CASE => chains.push(0),
                Keyword::END if chains.len() > 1 => {
                    chains.pop();
                }
                Keyword::NOT => is_prefix = true,
                Keyword::AND | Keyword::OR | Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT
                | Keyword::COLLATE | Keyword::IS | Keyword::LIKE => {
                    *chains.last_mut().expect("never empty") += 1;
                }
                Keyword::SELECT | Keyword::FROM | Keyword::WHERE => {}
                _ => {}
            },
            Token::Minus | Token::Plus | Token::Tilde => {
                is_prefix = true;
                *chains.last_mut().expect("never empty") += 1;
            }
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) | Token::Period => {}
            _ => *chains.last_mut().expect("never empty") += 1,
        }
        prefix_run = if is_prefix { prefix_run + 1 } else { 0 };
        let too_deep = chains.len() > NESTING_MAX
            || prefix_run > NESTING_MAX
            || *chains.last().expect("never empty") > CHAIN_MAX;
        if too_deep {
            return Err(too_complex());
        }
    }
    Ok(())
}

pub(super) fn too_complex() -> SqlError {
    SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
        .with_hint("Write the statement with less nesting, or long chains of operators as IN lists or arrays.")
}
