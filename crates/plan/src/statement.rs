//! SQL text to syntax trees, within limits of size and nesting.

/// A statement of a query string.
#[derive(Clone, Debug)]
pub struct ParsedStatement {
    pub(crate) ast: sqlparser::ast::Statement,
    /// The statement's text, without its terminator.
    pub text: std::sync::Arc<str>,
}
