//! PostgreSQL's grammar where sqlparser's dialect of that name falls short.
//!
//! sqlparser asks the dialect first whenever an expression or an operator begins. What is read here:
//!
//! - `a BETWEEN [NOT] SYMMETRIC b AND c`: the lower bound comes out as `Prefixed` with [`SYMMETRIC`], which prints as it
//!   was written, so that the text of a constraint can be read again;
//! - `(VALUES ...)` as a subquery, also behind ANY, SOME and ALL;
//! - prefix operators that sqlparser has no name for, as `Prefixed` with the operator. PostgreSQL takes the longest run of
//!   operator characters for one operator, so `~-1` is the unknown operator `~-` and no syntax error.
//!
//! Everything else is sqlparser's: the methods below hand over what [`PostgreSqlDialect`] says differently from the
//! defaults of the trait, and the wrapper reports its type, which sqlparser compares in places.

use std::any::TypeId;

use sqlparser::ast::{BinaryOperator, Expr, Ident};
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::cursor::is_word;

/// The prefix of the lower bound in `BETWEEN SYMMETRIC`.
pub(crate) const SYMMETRIC: &str = "SYMMETRIC";

static BASE: PostgreSqlDialect = PostgreSqlDialect {};

/// The dialect that statements are read in.
#[derive(Debug)]
pub(crate) struct Postgres;

/// Methods without arguments whose answer is PostgreSqlDialect's.
macro_rules! as_in_base {
    ($($method:ident)*) => {
        $(fn $method(&self) -> bool {
            BASE.$method()
        })*
    };
}

impl Dialect for Postgres {
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        BASE.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        BASE.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        BASE.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        BASE.is_identifier_part(ch)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        BASE.is_custom_operator_part(ch)
    }

    fn is_reserved_for_identifier(&self, kw: Keyword) -> bool {
        BASE.is_reserved_for_identifier(kw)
    }

    /// FOR begins a locking clause and is reserved in PostgreSQL.
    fn is_column_alias(&self, kw: &Keyword, parser: &mut Parser) -> bool {
        *kw != Keyword::FOR && BASE.is_column_alias(kw, parser)
    }

    fn is_table_alias(&self, kw: &Keyword, parser: &mut Parser) -> bool {
        BASE.is_table_alias(kw, parser)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        BASE.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        BASE.prec_value(precedence)
    }

    as_in_base! {
        allow_extract_custom
        allow_extract_single_quotes
        supports_aliased_function_args
        supports_alter_column_type_using
        supports_alter_user_as_alter_role
        supports_array_typedef_with_brackets
        supports_bitwise_shift_operators
        supports_comma_separated_trim
        supports_comment_on
        supports_comment_optimizer_hint
        supports_create_index_with_clause
        supports_create_table_like_parenthesized
        supports_empty_projections
        supports_exclude_constraint
        supports_explain_with_utility_options
        supports_factorial_operator
        supports_filter_during_aggregation
        supports_geometric_types
        supports_group_by_expr
        supports_insert_table_alias
        supports_interval_options
        supports_left_associative_joins_without_parens
        supports_listen_notify
        supports_load_extension
        supports_named_fn_args_with_colon_operator
        supports_named_fn_args_with_expr_name
        supports_nested_comments
        supports_notnull_operator
        supports_numeric_literal_underscores
        supports_order_by_using_operator
        supports_select_wildcard_with_alias
        supports_set_names
        supports_string_escape_constant
        supports_unicode_string_literal
        supports_xml_expressions
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let [first, second] = parser.peek_tokens_ref();
        match &first.token {
            Token::CustomBinaryOperator(operator) => {
                let prefix = Ident::with_span(first.span, operator.clone());
                parser.advance_token();
                let operand = parser.parse_subexpr(self.prec_value(Precedence::PgOther));
                Some(operand.map(|value| Expr::Prefixed { prefix, value: Box::new(value) }))
            }
            Token::LParen if is_keyword(second, Keyword::VALUES) => {
                parser.advance_token();
                Some(parser.parse_query().and_then(|query| {
                    parser.expect_token(&Token::RParen)?;
                    Ok(Expr::Subquery(query))
                }))
            }
            _ => None,
        }
    }

    fn parse_infix(
        &self,
        parser: &mut Parser,
        left: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        let [a, b, c, d] = parser.peek_tokens_ref();
        let (negated, between, kind) = if is_keyword(a, Keyword::NOT) { (true, b, c) } else { (false, a, b) };
        if is_keyword(between, Keyword::BETWEEN) {
            let symmetric = is_word(&kind.token, SYMMETRIC);
            if !symmetric && !is_word(&kind.token, "ASYMMETRIC") {
                return None;
            }
            skip(parser, if negated { 3 } else { 2 });
            return Some(self.between(parser, left, negated, symmetric));
        }
        let quantifier = match &b.token {
            Token::Word(w) if matches!(w.keyword, Keyword::ANY | Keyword::SOME | Keyword::ALL) => w.keyword,
            _ => return None,
        };
        if c.token != Token::LParen || !is_keyword(d, Keyword::VALUES) {
            return None;
        }
        let compare_op = comparison(&a.token)?;
        skip(parser, 2);
        let left = Box::new(left.clone());
        Some(parser.parse_subexpr(precedence).map(|right| {
            let right = Box::new(right);
            match quantifier {
                Keyword::ALL => Expr::AllOp { left, compare_op, right },
                k => Expr::AnyOp { left, compare_op, right, is_some: k == Keyword::SOME },
            }
        }))
    }
}

impl Postgres {
    fn between(
        &self,
        parser: &mut Parser,
        left: &Expr,
        negated: bool,
        symmetric: bool,
    ) -> Result<Expr, ParserError> {
        let precedence = self.prec_value(Precedence::Between);
        let mut low = Box::new(parser.parse_subexpr(precedence)?);
        if symmetric {
            low = Box::new(Expr::Prefixed { prefix: Ident::new(SYMMETRIC), value: low });
        }
        parser.expect_keyword_is(Keyword::AND)?;
        let high = Box::new(parser.parse_subexpr(precedence)?);
        Ok(Expr::Between { expr: Box::new(left.clone()), negated, low, high })
    }
}

fn is_keyword(token: &TokenWithSpan, keyword: Keyword) -> bool {
    matches!(&token.token, Token::Word(w) if w.keyword == keyword)
}

fn skip(parser: &mut Parser, tokens: usize) {
    for _ in 0..tokens {
        parser.advance_token();
    }
}

fn comparison(token: &Token) -> Option<BinaryOperator> {
    Some(match token {
        Token::Eq => BinaryOperator::Eq,
        Token::Neq => BinaryOperator::NotEq,
        Token::Lt => BinaryOperator::Lt,
        Token::LtEq => BinaryOperator::LtEq,
        Token::Gt => BinaryOperator::Gt,
        Token::GtEq => BinaryOperator::GtEq,
        _ => return None,
    })
}
