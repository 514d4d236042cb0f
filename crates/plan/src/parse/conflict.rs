//! What `ON CONFLICT (...) WHERE ...` names, of which sqlparser reads names of columns alone.

use meridian_datum::Result;
use sqlparser::ast;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::cursor::is_word;
use super::error;

/// The rows that may conflict: those of an index on these elements, with this condition.
#[derive(Clone, Debug)]
pub(crate) struct ConflictElements {
    /// Columns and expressions.
    pub(crate) elements: Vec<ast::Expr>,
    /// `WHERE`
    pub(crate) predicate: Option<ast::Expr>,
}

/// A name that no client can write: the number of a target that was taken out.
const TARGET: &str = "\0target";

/// Which target a name stands for.
pub(crate) fn target_number(name: &ast::Ident) -> Option<usize> {
    name.value.strip_prefix(TARGET)?.parse().ok()
}

/// Takes the target out whose `ON` stands at `at`, unless it is one that sqlparser reads.
pub(super) fn take(
    tokens: &mut Vec<TokenWithSpan>,
    at: usize,
    source: &str,
    taken: &mut Vec<ConflictElements>,
) -> Result<()> {
    let open = at + 2;
    if tokens.get(open).is_none_or(|t| t.token != Token::LParen) {
        return Ok(());
    }
    let Some(close) = end(tokens, open + 1, &|t| *t == Token::RParen) else { return Ok(()) };
    let has_predicate = tokens.get(close + 1).is_some_and(|t| is_word(&t.token, "WHERE"));
    let is_name = |t: &TokenWithSpan| matches!(t.token, Token::Word(_) | Token::Comma);
    if !has_predicate && tokens[open + 1..close].iter().all(is_name) {
        return Ok(());
    }
    let (predicate, behind) = if has_predicate {
        let Some(action) = end(tokens, close + 2, &|t| is_word(t, "DO")) else { return Ok(()) };
        (Some(read(&tokens[close + 2..=action], source)?), action)
    } else {
        (None, close + 1)
    };
    let mut elements = Vec::new();
    let mut from = open + 1;
    while from <= close {
        let to = end(tokens, from, &|t| *t == Token::Comma).map_or(close, |to| to.min(close));
        elements.push(read(&tokens[from..=to], source)?);
        from = to + 1;
    }
    let span = tokens[open].span;
    let name = Token::make_word(&format!("{TARGET}{}", taken.len()), Some('"'));
    let stand_in = [Token::LParen, name, Token::RParen].map(|token| TokenWithSpan { token, span });
    tokens.splice(open..behind, stand_in);
    taken.push(ConflictElements { elements, predicate });
    Ok(())
}

/// Where, from `from` on and outside of parentheses that open there, the token stands.
fn end(tokens: &[TokenWithSpan], from: usize, is: &dyn Fn(&Token) -> bool) -> Option<usize> {
    let mut depth = 0usize;
    for (at, t) in tokens.iter().enumerate().skip(from) {
        if depth == 0 && is(&t.token) {
            return Some(at);
        }
        match t.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

/// The expression before the last token, which ends it.
fn read(tokens: &[TokenWithSpan], source: &str) -> Result<ast::Expr> {
    let (last, before) = tokens.split_last().expect("an end has been found");
    if before.is_empty() {
        return Err(error::near(last, source));
    }
    let mut parser = super::parser(tokens.to_vec());
    let expr = parser.parse_expr().map_err(|e| error::syntax(e, source, &parser))?;
    let rest = parser.peek_token();
    if rest.span != last.span {
        return Err(error::near(&rest, source));
    }
    Ok(expr)
}
