//! Walking over tokens.

use meridian_datum::Result;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::error;

/// Whether a token is an unquoted word, in any case.
pub(super) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// The tokens of one statement and a place among them.
pub(super) struct Cursor<'a> {
    pub(super) tokens: &'a [TokenWithSpan],
    pub(super) at: usize,
    pub(super) source: &'a str,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(tokens: &'a [TokenWithSpan], source: &'a str) -> Self {
        Cursor { tokens, at: 0, source }
    }

    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at).map(|t| &t.token)
    }

    pub(super) fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// Consumes the words, all or none of them.
    pub(super) fn words(&mut self, words: &[&str]) -> bool {
        let ok = words
            .iter()
            .enumerate()
            .all(|(k, w)| self.tokens.get(self.at + k).is_some_and(|t| is_word(&t.token, w)));
        if ok {
            self.at += words.len();
        }
        ok
    }

    pub(super) fn word(&mut self, word: &str) -> bool {
        self.words(&[word])
    }

    pub(super) fn token(&mut self, token: &Token) -> bool {
        let ok = self.peek() == Some(token);
        if ok {
            self.at += 1;
        }
        ok
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.word(word) { Ok(()) } else { Err(self.error()) }
    }

    pub(super) fn expect(&mut self, token: &Token) -> Result<()> {
        if self.token(token) { Ok(()) } else { Err(self.error()) }
    }

    /// An identifier, folded.
    pub(super) fn ident(&mut self) -> Result<String> {
        match self.peek() {
            Some(Token::Word(w)) => {
                self.at += 1;
                Ok(if w.quote_style.is_some() { w.value.clone() } else { w.value.to_lowercase() })
            }
            _ => Err(self.error()),
        }
    }

    /// `a.b.c`
    pub(super) fn dotted(&mut self) -> Result<Vec<String>> {
        let mut out = vec![self.ident()?];
        while self.token(&Token::Period) {
            out.push(self.ident()?);
        }
        Ok(out)
    }

    /// The error of whoever meets the current token.
    pub(super) fn error(&self) -> meridian_datum::SqlError {
        match self.tokens.get(self.at) {
            Some(t) => error::near(t, self.source),
            None => error::end_of_input(self.source),
        }
    }

    pub(super) fn expect_end(&self) -> Result<()> {
        if self.at_end() { Ok(()) } else { Err(self.error()) }
    }

    /// The position of the statement.
    pub(super) fn start(&self) -> u32 {
        self.tokens.first().map_or(1, |t| t.span.start.column as u32)
    }

    /// The position of the current token.
    pub(super) fn position(&self) -> u32 {
        self.tokens.get(self.at).map_or(1, |t| t.span.start.column as u32)
    }
}
